#!/usr/bin/env python3
"""Adds the reward type of brightness_reward.h to copies of the sources, in the steps of CONTRIBUTING.md.

add_type.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import re
import sys

# For each file of the table: after which text what is inserted.
STEPS = {
    "common/config/reward_types.h": {
        "enum class RewardType { kClassifier, kJpeg": ", kBrightness"},
    "common/config/reward_types.cc": {
        "     .has_jpeg_quality = true},\n": '    {.type = RewardType::kBrightness, .name = "brightness"},\n'},
    "rollout/reward/make_reward.cc": {
        '#include "rollout/reward/weighted_rewards.h"\n': '#include "tests/unit/reward/new_type/brightness_reward.h"\n',
        "  switch (config.type) {\n":
            "    case RewardType::kBrightness:\n      return std::make_unique<BrightnessReward>();\n"},
    "rollout/reward/CMakeLists.txt": {
        "SOURCES ": "brightness_reward.cc "},
}


def table(text):
    """The files of CONTRIBUTING.md's table."""
    section = re.search(r"\n## A new reward type\n(.*?)\n## ", text, re.S)
    return re.findall(r"^\| `([^`]+)` \|", section[1], re.M) if section else []


source, copies = map(pathlib.Path, sys.argv[1:3])
named = table((source / "CONTRIBUTING.md").read_text())
if named != list(STEPS):
    sys.exit(f"CONTRIBUTING.md, A new reward type, names {named}; this test changes {list(STEPS)}")
if len(named) > 4:
    sys.exit(f"a new reward type takes changes in {len(named)} files; at most four are wanted")
for name, steps in STEPS.items():
    text = (source / name).read_text()
    for anchor, addition in steps.items():
        if text.count(anchor) != 1:
            sys.exit(f"{name} has {anchor!r} {text.count(anchor)} times: change the step in {__file__}")
        text = text.replace(anchor, anchor + addition)
    (copies / name).parent.mkdir(parents=True, exist_ok=True)
    (copies / name).write_text(text)
