#!/usr/bin/env python3
"""What TensorBoard itself reads of a job's folder: the numbers of metrics.jsonl, the pictures, the settings.

  tensorboard_loader.py JOB_DIR

It needs third_party/tensorboard, which `deploy/setup.sh --ci` unpacks, and the system's numpy, protobuf, absl and six.
"""
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "third_party"))
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from tensorboard.plugins.hparams import metadata  # noqa: E402


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def rounded(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def check_scalars(job, events):
    seen = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    rows = [json.loads(line) for line in (job / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) >= 2, rows
    for row in rows:
        numbers = {f"train/{key}": value for key, value in row.items() if key not in ("update", "parts_mean")}
        numbers.update({f"parts_mean/{part}": value for part, value in row["parts_mean"].items()})
        for tag, value in numbers.items():
            if value is not None:
                assert seen[tag][row["update"]] == rounded(value), (tag, row, seen[tag])
    assert len(seen["train/loss"]) == len(rows), "no step more than there are rows"


def check_images(job, kind):
    events = read(job / "tensorboard" / kind)
    pictures = {path.read_bytes() for path in (job / kind).rglob("*.png")}
    shown = [image.encoded_image_string for tag in events.Tags()["images"] for image in events.Images(tag)]
    assert shown and set(shown) <= pictures, f"{len(shown)} pictures of {kind}, {len(pictures)} in the folder"


def check_settings(events):
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["train.learning_rate"].number_value == 1e-3, hparams
    assert hparams["name"].string_value == "small", hparams


def main():
    job = pathlib.Path(sys.argv[1])
    events = read(job / "tensorboard")
    check_scalars(job, events)
    check_settings(events)
    for kind in ("samples", "eval"):
        check_images(job, kind)


if __name__ == "__main__":
    main()
