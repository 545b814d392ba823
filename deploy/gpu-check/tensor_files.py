"""Safetensors files with nothing but torch."""
import json
import pathlib

import torch

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in TYPES.items()}


def read_header(path):
    """{name: {dtype, shape, data_offsets}} and where the data begin."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def views(path, writable=False):
    """{name: tensor over the mapped file}; what is written into them is in the file where `writable`."""
    header, begin = read_header(path)
    data = torch.from_file(str(path), shared=writable, size=pathlib.Path(path).stat().st_size, dtype=torch.uint8)
    result = {}
    for name, entry in header.items():
        first, last = (begin + offset for offset in entry["data_offsets"])
        part = data[first:last]
        dtype = TYPES[entry["dtype"]]
        if part.storage_offset() % dtype.itemsize:
            if writable:
                raise ValueError(f"{path}: {name} is not aligned")
            part = part.clone()
        result[name] = part.view(dtype).reshape(entry["shape"])
    return result


def load_folder(folder):
    """All tensors of a model part's folder that has them in one file."""
    path, = sorted(pathlib.Path(folder).glob("*.safetensors"))
    return views(path)


def save(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    for name, view in views(path, writable=True).items():
        view.copy_(tensors[name].detach())
