#!/usr/bin/env python3
"""Writes tests/data/pictures: small files of every format and kind that image.h reads, and expected.safetensors with what
PIL makes of them: exif_transpose, then ImageCms.profileToProfile to sRGB where there is a profile, then convert("RGB").
Needs numpy, Pillow (made with 13.0), safetensors and tifffile.

  python3 tests/data/make_pictures.py
"""
import io
import pathlib
import struct
import sys
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make_profiles
from make_images import chunk, png, smooth

FOLDER = pathlib.Path(__file__).parent / "pictures"
RNG = np.random.default_rng(23)
PHOTO = Image.fromarray(smooth(RNG, 21, 30))
NOISE = RNG.integers(0, 256, (21, 30, 4), dtype=np.uint8)
ALPHA = Image.fromarray(NOISE, "RGBA")
XMP = ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
       '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"%s</rdf:RDF></x:xmpmeta>')
XMP_ATTRIBUTE = (XMP % ' tiff:Orientation="6"/>').encode()
XMP_ELEMENT = (XMP % "><tiff:Orientation>8</tiff:Orientation></rdf:Description>").encode()


def exif(orientation, order, kind=3):
    """An EXIF block whose orientation has a type: 3 SHORT, 4 LONG, 8 SSHORT, 9 SLONG, 1 BYTE, 5 RATIONAL."""
    e = {"II": "<", "MM": ">"}[order]
    value = {1: e + "B3x", 3: e + "H2x", 4: e + "I", 8: e + "h2x", 9: e + "i"}.get(kind)
    packed = struct.pack(value, orientation) if value else struct.pack(e + "I", 26)
    block = order.encode() + struct.pack(e + "HIH", 42, 8, 1) + struct.pack(e + "HHI", 0x0112, kind, 1) + packed
    return block + struct.pack(e + "I", 0) + (b"" if value else struct.pack(e + "II", orientation, 1))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_app1(jpeg, *segments):
    """A JPEG with these APP1 segments in front."""
    marked = b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments)
    return jpeg[:2] + marked + jpeg[2:]


def jpegs():
    plain = saved(PHOTO, "JPEG", quality=90)
    ink = PHOTO.convert("CMYK")
    cmyk = saved(ink, "JPEG", quality=90)
    files = {"cmyk": cmyk, "ycck": cmyk[:cmyk.index(b"Adobe")] + cmyk[cmyk.index(b"Adobe"):].replace(b"\0\0\0\0\0\0", b"\0\0\0\0\0\2", 1)}
    adobe = cmyk.index(b"Adobe") + 11  # The transform: 0 CMYK, 2 YCCK.
    files["ycck"] = cmyk[:adobe] + b"\2" + cmyk[adobe + 1:]
    files["cmyk_without_adobe"] = cmyk[:cmyk.index(b"\xff\xee")] + cmyk[cmyk.index(b"\xff\xee") + 16:]
    files["rgb"] = saved(PHOTO, "JPEG", quality=90, keep_rgb=True)
    files["restart"] = saved(PHOTO, "JPEG", quality=90, restart_marker_blocks=2)
    files["subsampled_422"] = saved(PHOTO, "JPEG", quality=90, subsampling=1)
    for name, block in [("long_ii", exif(6, "II", 4)), ("long_mm", exif(6, "MM", 4)), ("slong", exif(8, "MM", 9)),
                        ("sshort", exif(5, "II", 8)), ("byte", exif(6, "II", 1)), ("rational", exif(7, "MM", 5)),
                        ("nine", exif(9, "II"))]:
        files[f"exif_{name}"] = with_app1(plain, b"Exif\0\0" + block)
    xap = b"http://ns.adobe.com/xap/1.0/\0"
    files["xmp_attribute"] = with_app1(plain, xap + XMP_ATTRIBUTE)
    files["xmp_element"] = with_app1(plain, xap + XMP_ELEMENT)
    files["exif_before_xmp"] = with_app1(plain, xap + XMP_ELEMENT, b"Exif\0\0" + exif(3, "MM"))
    block = exif(6, "MM")
    files["exif_in_two"] = with_app1(plain, b"Exif\0\0" + block[:9], b"Exif\0\0" + block[9:])
    files["icc_rgb"] = saved(PHOTO, "JPEG", quality=90, icc_profile=make_profiles.rgb())
    files["icc_srgb"] = saved(PHOTO, "JPEG", quality=90, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    files["icc_grey"] = saved(PHOTO.convert("L"), "JPEG", quality=90, icc_profile=make_profiles.grey())
    files["icc_cmyk"] = saved(ink, "JPEG", quality=90, icc_profile=make_profiles.cmyk())
    files["icc_long"] = saved(PHOTO, "JPEG", quality=90, icc_profile=make_profiles.rgb(padding=140000))
    return {name + ".jpg": data for name, data in files.items()}


def pngs():
    rgb = np.asarray(PHOTO)
    first, rest = png(rgb, 8, 2), b""
    iend = first.rindex(b"IEND") - 4
    raw = b"\nexif\n%8d\n" % len(exif(6, "II", 4))
    raw += b"\n".join(exif(6, "II", 4).hex()[i:i + 72].encode() for i in range(0, 1000, 72)).strip() + b"\n"
    text = b"Raw profile type exif\0"
    itxt = b"XML:com.adobe.xmp\0%s\0\0\0"
    files = {
        "exif_long": png(rgb, 8, 2, extra=chunk(b"eXIf", exif(6, "II", 4))),
        "exif_behind_pixels": first[:iend] + chunk(b"eXIf", exif(5, "MM")) + first[iend:],
        "raw_exif": png(rgb, 8, 2, extra=chunk(b"tEXt", text + raw)),
        "raw_exif_packed": png(rgb, 8, 2, extra=chunk(b"zTXt", text + b"\0" + zlib.compress(raw))),
        "xmp": png(rgb, 8, 2, extra=chunk(b"iTXt", itxt % b"\0" + XMP_ATTRIBUTE)),
        "xmp_packed": png(rgb, 8, 2, extra=chunk(b"iTXt", itxt % b"\1" + zlib.compress(XMP_ELEMENT))),
        "icc_rgb": saved(PHOTO, "PNG", icc_profile=make_profiles.rgb()),
        "icc_rgba": saved(ALPHA, "PNG", icc_profile=make_profiles.rgb()),
        "icc_grey": saved(PHOTO.convert("L"), "PNG", icc_profile=make_profiles.grey()),
        "icc_palette": saved(PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=40), "PNG", icc_profile=make_profiles.rgb()),
        "icc_rgb16": png(RNG.integers(0, 65536, (9, 11, 3)), 16, 2, extra=chunk(b"iCCP", b"p\0\0" + zlib.compress(make_profiles.rgb()))),
        "rgba16": png(RNG.integers(0, 65536, (9, 11, 4)), 16, 6),
        "grey_alpha16": png(RNG.integers(0, 65536, (9, 11, 2)), 16, 4),
        "grey_transparent": png(rgb[:, :, :1], 8, 0, extra=chunk(b"tRNS", b"\0\x80")),
        "grey1_interlaced": png(RNG.integers(0, 2, (9, 11, 1)), 1, 0, interlaced=True),
        "palette2_interlaced": png(RNG.integers(0, 4, (9, 11, 1)), 2, 3, interlaced=True,
                                   extra=chunk(b"PLTE", bytes(RNG.integers(0, 256, 12, dtype=np.uint8)))),
        "palette1": png(RNG.integers(0, 2, (9, 11, 1)), 1, 3, extra=chunk(b"PLTE", bytes([9, 80, 200, 250, 3, 60]))),
    }
    return {name + ".png": data for name, data in files.items()}


def webps():
    frames = [PHOTO, PHOTO.rotate(180)]
    prefixed = exif(6, "II", 4)
    offset = saved(Image.new("RGBA", (30, 21)), "WEBP", save_all=True, append_images=[PHOTO.convert("RGBA")], lossless=True)
    files = {
        "lossy": saved(PHOTO, "WEBP", quality=80),
        "lossy_alpha": saved(ALPHA, "WEBP", quality=70),
        "lossless": saved(PHOTO, "WEBP", lossless=True),
        "lossless_alpha": saved(ALPHA, "WEBP", lossless=True, exact=True),
        "animated": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=80),
        "animated_clear": offset,
        "exif": saved(PHOTO, "WEBP", exif=prefixed),
        "xmp": saved(PHOTO, "WEBP", xmp=XMP_ATTRIBUTE),
        "icc": saved(PHOTO, "WEBP", lossless=True, icc_profile=make_profiles.rgb()),
    }
    return {name + ".webp": data for name, data in files.items()}


def bmp(rows, bits, *, height=21, width=30, compression=0, palette=b"", masks=b"", size=40, colours=0):
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(rows), 0, 0, colours, 0)
    header += masks + b"\0" * max(0, size - 40 - len(masks))
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + palette + rows


def bmps():
    rgb = np.asarray(PHOTO)
    bgr = np.ascontiguousarray(rgb[::-1, :, ::-1])
    r, g, b = (bgr[:, :, c].astype(np.uint32) for c in (2, 1, 0))
    indices = RNG.integers(0, 16, (21, 30), dtype=np.uint8)
    colours = bytes(RNG.integers(0, 256, 64, dtype=np.uint8))
    pad = lambda rows, width: b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    rle8 = b"".join(bytes([10, int(i) % 16, 3, 5, 0, 5, 1, 2, 3, 4, 5, 0, 12, 9, 0, 0]) for i in range(21)) + b"\0\1"
    rle4 = b"".join(bytes([11, 0x5A, 0, 5, 0x12, 0x34, 0x50, 0, 14, 0x7E, 0, 0]) for _ in range(20)) + b"\0\2\3\0\4\x21\0\1"
    rle4 += b""
    files = {
        "rgb24": saved(PHOTO, "BMP"), "grey": saved(PHOTO.convert("L"), "BMP"), "one": saved(PHOTO.convert("1"), "BMP"),
        "palette": saved(PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=40), "BMP"),
        "palette4": bmp(pad([bytes(row[::2] << 4 | row[1::2]) for row in indices], 15), 4, palette=colours, colours=16),
        "from_top": bmp(pad([row.tobytes() for row in bgr], 90), 24, height=-21),
        "rgb32": bmp(np.dstack([bgr, NOISE[:, :, 3]]).tobytes(), 32),
        "rgb555": bmp(pad([row.tobytes() for row in (r >> 3 << 10 | g >> 3 << 5 | b >> 3).astype("<u2")], 60), 16),
        "rgb565": bmp(pad([row.tobytes() for row in (r >> 3 << 11 | g >> 2 << 5 | b >> 3).astype("<u2")], 60), 16, compression=3,
                      masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
        "masks32": bmp((r << 24 | g << 16 | b << 8).astype("<u4").tobytes(), 32, compression=3,
                       masks=struct.pack("<IIII", 0xFF000000, 0xFF0000, 0xFF00, 0), size=108),
        "rle8": bmp(rle8, 8, compression=1, palette=colours, colours=16),
        "os2": b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 30, 21, 1, 24) + pad([row.tobytes() for row in bgr], 90),
    }
    return {name + ".bmp": data for name, data in files.items()}


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def tiffs():
    rgb, big = np.asarray(PHOTO), np.asarray(PHOTO.resize((70, 50)))
    rgb16 = RNG.integers(0, 65536, (21, 30, 3), dtype=np.uint16)
    grey16 = rgb16[:, :, 0].copy()
    palette = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=40)
    files = {
        "rgb": saved(PHOTO, "TIFF"), "rgba": saved(ALPHA, "TIFF"), "grey": saved(PHOTO.convert("L"), "TIFF"),
        "lzw": saved(PHOTO, "TIFF", compression="tiff_lzw"), "deflate": saved(PHOTO, "TIFF", compression="tiff_adobe_deflate"),
        "packbits": saved(PHOTO, "TIFF", compression="packbits"), "jpeg": saved(PHOTO, "TIFF", compression="jpeg", quality=90),
        "jpeg_grey": saved(PHOTO.convert("L"), "TIFF", compression="jpeg", quality=90),
        "group4": saved(PHOTO.convert("1"), "TIFF", compression="group4"), "one": saved(PHOTO.convert("1"), "TIFF"),
        "palette": saved(palette, "TIFF"), "palette_lzw": saved(palette, "TIFF", compression="tiff_lzw"),
        "cmyk": saved(PHOTO.convert("CMYK"), "TIFF"), "cmyk_lzw": saved(PHOTO.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "icc_cmyk": saved(PHOTO.convert("CMYK"), "TIFF", icc_profile=make_profiles.cmyk()),
        "ycbcr": saved(PHOTO.convert("YCbCr"), "TIFF", compression="tiff_lzw"),
        "tiled": tiff(big, tile=(16, 32), photometric="rgb"),
        "tiled_deflate": tiff(big, tile=(16, 32), photometric="rgb", compression="zlib", predictor=2),
        "planes": tiff(np.ascontiguousarray(rgb.transpose(2, 0, 1)), photometric="rgb", planarconfig="separate"),
        "rgb16": tiff(rgb16, photometric="rgb"), "rgb16_mm": tiff(rgb16, photometric="rgb", byteorder=">"),
        "grey16": tiff(grey16, photometric="minisblack", compression="zlib", predictor=2),
        "white_is_zero": tiff(rgb[:, :, 0], photometric="miniswhite"),
        "associated": tiff(NOISE, photometric="rgb", extrasamples=["assocalpha"]),
        "bigtiff": tiff(rgb, photometric="rgb", bigtiff=True),
        "pages": tiff(np.stack([rgb, rgb[::-1]]), photometric="rgb"),
        "turned": saved(PHOTO, "TIFF", tiffinfo={274: 6}), "turned_lzw": saved(PHOTO, "TIFF", tiffinfo={274: 5}, compression="tiff_lzw"),
        "turned_xmp": tiff(rgb, photometric="rgb", extratags=[(700, 1, len(XMP_ELEMENT), XMP_ELEMENT, True)]),
    }
    return {name + ".tif": data for name, data in files.items()}, {"grey16.tif": np.repeat((grey16 >> 8)[:, :, None], 3, 2).astype(np.uint8)}


def gifs():
    small = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=40)
    plain = saved(small, "GIF", interlace=0)
    at = plain.index(b",\0\0\0\0")
    moved = plain[:6] + struct.pack("<HH", 40, 30) + plain[10:at] + b"," + struct.pack("<HH", 4, 7) + plain[at + 5:]
    control = b"!\xf9\x04\1\0\0\x07\0"
    files = {
        "plain": plain, "interlaced": saved(small, "GIF", interlace=1), "grey": saved(PHOTO.convert("L"), "GIF"),
        "animated": saved(small, "GIF", save_all=True, append_images=[small.rotate(180)]),
        "moved": moved, "moved_transparent": moved[:moved.index(b",\4\0\7\0")] + control + moved[moved.index(b",\4\0\7\0"):],
        "beyond_screen": plain[:6] + struct.pack("<HH", 8, 9) + plain[10:],
    }
    return {name + ".gif": data for name, data in files.items()}


def as_pil_sees(data):
    seen = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    profile = seen.info.get("icc_profile")
    if profile:
        seen = seen.convert("RGB") if seen.mode in ("P", "PA") else seen
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        seen = ImageCms.profileToProfile(seen, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(seen.convert("RGB"))


def main():
    tiff_files, expected = tiffs()
    for folder, files in [("jpeg", jpegs()), ("png", pngs()), ("webp", webps()), ("bmp", bmps()), ("tiff", tiff_files), ("gif", gifs())]:
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (FOLDER / folder / name).write_bytes(data)
            try:
                expected[f"{folder}/{name}"] = expected.pop(name) if name in expected else as_pil_sees(data)
            except Exception as e:
                raise RuntimeError(name) from e
    save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
