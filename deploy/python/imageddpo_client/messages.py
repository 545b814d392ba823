"""The messages of the API, made at import from descriptors.bin (see setup.py)."""
from __future__ import annotations

import pathlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PATH = pathlib.Path(__file__).with_name("descriptors.bin")


def _load_pool() -> descriptor_pool.DescriptorPool:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(_PATH.read_bytes())
    except FileNotFoundError:
        raise ImportError(f"{_PATH} is missing; install the package: pip install deploy/python") from None
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:  # Imports come before those that import them.
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()


def message(name: str) -> Any:
    """The class of imageddpo.v1.`name`, or of a full name."""
    descriptor = POOL.FindMessageTypeByName(name if "." in name else f"imageddpo.v1.{name}")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(POOL).GetPrototype(descriptor)


def enum_name(enum: str, number: int) -> str:
    values = POOL.FindEnumTypeByName(f"imageddpo.v1.{enum}").values_by_number
    return values[number].name if number in values else str(number)
