#!/usr/bin/env python3
"""Adds the reward type of brightness_reward.h to copies of the sources, in the steps of CONTRIBUTING.md.

add_type.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "testing"))
import steps  # noqa: E402

steps.take("A new reward type", {
    "common/config/reward_types.h": {
        "  kJpeg,\n": "  kBrightness,\n"},
    "common/config/reward_types.cc": {
        "     .has_jpeg_quality = true},\n": '    {.type = RewardType::kBrightness, .name = "brightness"},\n'},
    "rollout/reward/make_reward.cc": {
        '#include "rollout/reward/weighted_rewards.h"\n': '#include "tests/unit/reward/new_type/brightness_reward.h"\n',
        "  switch (config.type) {\n":
            "    case RewardType::kBrightness:\n      return std::make_unique<BrightnessReward>();\n"},
    "rollout/reward/CMakeLists.txt": {
        "SOURCES ": "brightness_reward.cc "},
})
