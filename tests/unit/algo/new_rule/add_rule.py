#!/usr/bin/env python3
"""Adds the advantage rule of centred_advantages.h to copies of the sources, in the steps of CONTRIBUTING.md.

add_rule.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "testing"))
import steps  # noqa: E402

steps.take("A new advantage rule", {
    "trainer/algo/advantage_rule.cc": {
        '#include "trainer/algo/global_advantages.h"\n':
            '#include "tests/unit/algo/new_rule/centred_advantages.h"\n',
        "  switch (settings.mode) {\n":
            "    case AdvantageMode::kCentred:\n      return std::make_unique<CentredAdvantages>();\n"},
    "trainer/algo/CMakeLists.txt": {
        "SOURCES adamw.cc": " centred_advantages.cc"},
    "common/config/choices.h": {
        "enum class AdvantageMode { kGlobal, kPerKey": ", kCentred",
        "kAdvantageModes[] = {": '{AdvantageMode::kCentred, "centred"}, '},
    "docs/settings.md": {
        "| `advantage.mode` | `global` |": " `centred`: rewards minus the epoch's mean."},
})
