"""Small ICC profiles (ICC.1:2001, version 2.4) for make_pictures.py: none of them is sRGB."""
import struct

import numpy as np


def s15(*values):
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def xyz(*values):
    return b"XYZ \0\0\0\0" + s15(*values)


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def text(value):
    return b"text\0\0\0\0" + value + b"\0"


def description(value):
    return b"desc\0\0\0\0" + struct.pack(">I", len(value) + 1) + value + b"\0" + b"\0" * 78


def profile(kind, space, pcs, tags):
    tags = [(b"desc", description(b"test")), (b"cprt", text(b"none")), (b"wtpt", xyz(0.9642, 1, 0.8249))] + tags
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    header = struct.pack(">I4xI", offset + len(data), 0x02400000) + kind + space + pcs
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + s15(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + data


def rgb(padding=0):
    """Wide primaries, gamma 1.8 to 2.2; longer than a JPEG segment with padding."""
    tags = [(b"rXYZ", xyz(0.6097, 0.3111, 0.0195)), (b"gXYZ", xyz(0.2053, 0.6257, 0.0609)), (b"bXYZ", xyz(0.1492, 0.0632, 0.7446)),
            (b"rTRC", gamma(2.2)), (b"gTRC", gamma(2.0)), (b"bTRC", gamma(1.8))]
    return profile(b"mntr", b"RGB ", b"XYZ ", tags + ([(b"pad ", text(b"p" * padding))] if padding else []))


def grey():
    return profile(b"mntr", b"GRAY", b"XYZ ", [(b"kTRC", gamma(1.6))])


def cmyk():
    """A table of 3 values each way of a simple ink, in Lab."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 3)] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - grid[:, :3] * 0.9) * (1 - grid[:, 3:] * 0.85)
    lab = np.stack([light @ [25, 60, 15], (light[:, 0] - light[:, 1]) * 60, (light[:, 1] - light[:, 2]) * 60], -1)
    table = np.clip(np.round(np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], -1)), 0, 255).astype(np.uint8)
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 3, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + table.tobytes() + ramp * 3
    return profile(b"prtr", b"CMYK", b"Lab ", [(b"A2B0", lut)])
