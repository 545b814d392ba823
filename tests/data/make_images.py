#!/usr/bin/env python3
"""Writes tests/data/images: small PNG and JPEG files of every kind that image.h reads, and
expected.safetensors with what PIL makes of them. Needs numpy, Pillow and safetensors.

  python3 tests/data/make_images.py
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "images"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bit_depth, color_type, interlaced=False, extra=b""):
    """A PNG of samples [H, W, channels] as they are, which PIL cannot write for every kind."""
    height, width, _ = samples.shape

    def rows(part):
        data = b""
        for row in part:
            flat = row.reshape(-1)
            if bit_depth == 16:
                data += b"\0" + flat.astype(">u2").tobytes()
            elif bit_depth == 8:
                data += b"\0" + flat.astype(np.uint8).tobytes()
            else:
                bits = "".join(format(int(v), f"0{bit_depth}b") for v in flat)
                bits += "0" * (-len(bits) % 8)
                data += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        return data

    if interlaced:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(rows(part) for part in parts if part.size)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data))
            + chunk(b"IEND", b""))


def exif(orientation, byte_order):
    """An EXIF block with two entries, the second of which is the orientation."""
    e = {"II": "<", "MM": ">"}[byte_order]
    block = byte_order.encode() + struct.pack(e + "HI", 42, 8) + struct.pack(e + "H", 2)
    block += struct.pack(e + "HHII", 0x0100, 4, 1, 77)
    block += struct.pack(e + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return block + struct.pack(e + "I", 0)


def smooth(rng, height, width):
    """A picture-like image: enlarged coarse noise, which JPEG reproduces well."""
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def main():
    (FOLDER / "oriented").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    height, width = 9, 11
    files = {}

    rgb = rng.integers(0, 256, (height, width, 3))
    grey = rng.integers(0, 256, (height, width, 1))
    files["rgb.png"] = png(rgb, 8, RGB)
    files["rgb_interlaced.png"] = png(rgb, 8, RGB, interlaced=True)
    files["rgba.png"] = png(rng.integers(0, 256, (height, width, 4)), 8, RGBA)
    files["rgb_transparent_colour.png"] = png(rgb, 8, RGB, extra=chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[0, 0]))))
    files["rgb16.png"] = png(rng.integers(0, 65536, (height, width, 3)), 16, RGB)
    files["rgb_gamma.png"] = png(rgb, 8, RGB, extra=chunk(b"gAMA", struct.pack(">I", 100000)))
    files["grey.png"] = png(grey, 8, GREY)
    files["grey1.png"] = png(rng.integers(0, 2, (height, width, 1)), 1, GREY)
    files["grey2.png"] = png(rng.integers(0, 4, (height, width, 1)), 2, GREY)
    files["grey4.png"] = png(rng.integers(0, 16, (height, width, 1)), 4, GREY)
    grey16 = rng.integers(0, 65536, (height, width, 1))
    files["grey16.png"] = png(grey16, 16, GREY)
    files["grey_alpha.png"] = png(rng.integers(0, 256, (height, width, 2)), 8, GREY_ALPHA)
    palette = chunk(b"PLTE", rng.integers(0, 256, 16 * 3, dtype=np.uint8).tobytes())
    indices = rng.integers(0, 16, (height, width, 1))
    files["palette4.png"] = png(indices, 4, PALETTE, extra=palette)
    files["palette8_transparent.png"] = png(indices, 8, PALETTE, extra=palette + chunk(b"tRNS", bytes([0, 128, 255])))
    files["oriented6.png"] = png(rgb, 8, RGB, extra=chunk(b"eXIf", exif(6, "MM")))

    photo = Image.fromarray(smooth(rng, 21, 30))
    for name, image, options in [
        ("rgb.jpg", photo, {"quality": 90}),
        ("rgb_444.jpg", photo, {"quality": 90, "subsampling": 0}),
        ("progressive.jpg", photo, {"quality": 80, "progressive": True}),
        ("grey.jpg", photo.convert("L"), {"quality": 90}),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        files[name] = buffer.getvalue()
    for orientation in range(1, 9):
        buffer = io.BytesIO()
        block = exif(orientation, "II" if orientation % 2 else "MM")
        photo.save(buffer, "JPEG", quality=90, exif=b"Exif\0\0" + block)
        files[f"oriented{orientation}.jpg"] = buffer.getvalue()
    files["jpeg_called.png"] = files["rgb.jpg"]

    expected = {}
    for name, data in files.items():
        (FOLDER / ("oriented" if name.startswith("oriented") else "") / name).write_bytes(data)
        if name == "grey16.png":  # PIL's own rule for 16-bit grey has changed between versions.
            expected[name] = np.repeat((grey16 >> 8).astype(np.uint8), 3, axis=2)
        else:
            seen = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            expected[name] = np.asarray(seen.convert("RGB"))

    source = rng.integers(0, 256, (23, 37, 3), dtype=np.uint8)
    expected["resize.source"] = source
    for filter_name in ["BILINEAR", "BICUBIC", "LANCZOS"]:
        for new_width, new_height in [(64, 64), (16, 16), (37, 10), (5, 23), (1, 1), (20, 60)]:
            resized = Image.fromarray(source).resize((new_width, new_height), Image.Resampling[filter_name])
            expected[f"resize.{filter_name}.{new_width}x{new_height}"] = np.asarray(resized)

    # Sizes in bytes of PIL's JPEG files: [quality 10, 75, 95, 100].
    for name, image in [("noise", source), ("smooth", smooth(rng, 64, 64)), ("flat", np.full((32, 32, 3), 200, np.uint8))]:
        sizes = []
        for quality in [10, 75, 95, 100]:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=quality)
            sizes.append(buffer.tell())
        expected[f"jpeg.{name}.image"] = image
        expected[f"jpeg.{name}.bytes"] = np.array(sizes, np.int64)
    save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
