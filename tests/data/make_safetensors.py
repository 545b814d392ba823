#!/usr/bin/env python3
"""Writes tests/data/all_dtypes.safetensors with the format's own library: one tensor of each dtype, a
scalar and an empty tensor. Needs torch and safetensors.

  python3 tests/data/make_safetensors.py
"""
import pathlib

import torch
from safetensors.torch import save_file

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
          "U8": torch.uint8}


def main():
    tensors = {name: torch.tensor([[1, 2, 3], [4, 5, 100]], dtype=dtype) for name, dtype in DTYPES.items()}
    tensors["BOOL"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    path = pathlib.Path(__file__).parent / "all_dtypes.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


if __name__ == "__main__":
    main()
