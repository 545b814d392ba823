"""What a reward function takes and returns, and how it becomes messages."""
from __future__ import annotations

import io
import json
import math
import traceback
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

RGB_UINT8, RGB_FLOAT32, PNG = 0, 1, 2
PIXELS = {"uint8": RGB_UINT8, "float32": RGB_FLOAT32, "png": PNG}
IMAGES = ("numpy", "torch", "pil", "uint8")


class InvalidInput(Exception):
    """Raised by a reward, or returned in place of a value: these images can never be scored: the job ends, or goes on without them."""


def planes(request: Any, raw: bytes, png: Sequence[bytes]) -> np.ndarray:
    """The images of one field of a request: uint8 or float32 [N,3,H,W], read-only."""
    if request.pixels == PNG:
        return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).transpose(2, 0, 1) for file in png])
    dtype = np.dtype("<f4") if request.pixels == RGB_FLOAT32 else np.dtype(np.uint8)
    return np.frombuffer(raw, dtype).reshape(len(request.items), 3, request.height, request.width)


def convert(images: np.ndarray, kind: str) -> Any:
    """[N,3,H,W] as the function wants it; see serve()."""
    if kind in ("numpy", "torch"):
        floats = images.astype(np.float32) if images.dtype == np.float32 else images.astype(np.float32) / np.float32(255)
        if kind == "numpy":
            return floats
        import torch  # Only where it is asked for.
        return torch.from_numpy(floats)
    if images.dtype != np.uint8:
        images = np.rint(np.clip(images, 0, 1) * np.float32(255)).astype(np.uint8)
    rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return rows if kind == "uint8" else [Image.fromarray(row) for row in rows]


def metadata_of(request: Any, inputs: Any, targets: Any) -> List[Dict[str, Any]]:
    result = []
    for i, item in enumerate(request.items):
        entry = json.loads(item.metadata_json) if item.metadata_json else {}
        entry["id"] = item.id
        if item.HasField("label"):
            entry["label"] = item.label
        if inputs is not None:
            entry["input_image"] = inputs[i]
        if targets is not None:
            entry["target_image"] = targets[i]
        result.append(entry)
    return result


def last_line(error: BaseException) -> str:
    """The error as the last line of its traceback, with the place where it was raised."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return (text[-1] if text else type(error).__name__) + place


def _plain(value: Any) -> Any:
    """Tensors of torch and similar as numpy arrays."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return value.double().numpy() if value.is_floating_point() else value.numpy()
    return value


def _column(values: Any, size: int, what: str) -> List[Any]:
    """N numbers, errors or None, from a list, an array or a tensor of shape [N] or [N,1]."""
    values = _plain(values)
    if isinstance(values, np.ndarray):
        if values.shape not in ((size,), (size, 1)):
            raise ValueError(f"{what} have the shape {list(values.shape)}; expected [{size}], a number for each image")
        return [float(value) for value in values.reshape(size)]
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise TypeError(f"{what} are of type {type(values).__name__}; expected a list or array of {size} numbers")
    if len(values) != size:
        raise ValueError(f"{len(values)} {what} for {size} images")
    return [value if value is None or isinstance(value, Exception) else float(_plain(value)) for value in values]


def _parts_of(info: Any, size: int) -> Dict[str, List[Any]]:
    parts = {}
    for name, numbers in (info or {}).items():
        numbers = _plain(numbers)
        is_scalar = isinstance(numbers, (int, float)) or (isinstance(numbers, np.ndarray) and numbers.ndim == 0)
        parts[name] = [float(numbers)] * size if is_scalar else _column(numbers, size, f"numbers of the part {name!r}")
    return parts


def unpack(result: Any, size: int) -> Tuple[List[Any], Dict[str, List[Any]]]:
    """What a reward function returned, as a value, an error or None for each image, and numbers by part."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], (dict, type(None))):
        return _column(result[0], size, "values"), _parts_of(result[1], size)
    if isinstance(result, (list, tuple)) and any(isinstance(item, dict) for item in result):
        if len(result) != size:
            raise ValueError(f"{len(result)} values for {size} images")
        values = [item["value"] if isinstance(item, dict) else item for item in result]
        names = next(list(item) for item in result if isinstance(item, dict))
        names.remove("value")
        for item in result:
            if isinstance(item, dict) and set(item) != {"value", *names}:
                raise ValueError(f"an image has the numbers {sorted(item)}, another {sorted(['value', *names])}")
        nan = math.nan
        parts = {name: [item[name] if isinstance(item, dict) else nan for item in result] for name in names}
        return _column(values, size, "values"), _parts_of(parts, size)
    return _column(result, size, "values"), {}


def fill(response: Any, values: Sequence[Any], parts: Dict[str, List[Any]]) -> None:
    """Writes unpack()'s result into a ScoreResponse."""
    names = sorted(parts)
    response.part_names.extend(names)
    for i, value in enumerate(values):
        item = response.items.add()
        if value is None or isinstance(value, Exception):
            item.error.kind = 1 if isinstance(value, InvalidInput) else 0
            item.error.message = "the reward returned None for it" if value is None else last_line(value)
        else:
            item.value = value
            item.parts.extend(math.nan if parts[name][i] is None else parts[name][i] for name in names)
