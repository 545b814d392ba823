#!/usr/bin/env python3
"""Adds the advantage rule of centred_advantages.h to copies of the sources, in the steps of CONTRIBUTING.md.

add_rule.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import re
import sys

# For each file of the table: after which text what is inserted.
STEPS = {
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
}


def table(text):
    """The files of CONTRIBUTING.md's table."""
    section = re.search(r"\n## A new advantage rule\n(.*?)\n## ", text, re.S)
    return re.findall(r"^\| `([^`]+)` \|", section[1], re.M) if section else []


source, copies = map(pathlib.Path, sys.argv[1:3])
named = table((source / "CONTRIBUTING.md").read_text())
if named != list(STEPS):
    sys.exit(f"CONTRIBUTING.md, A new advantage rule, names {named}; this test changes {list(STEPS)}")
if len(named) > 4:
    sys.exit(f"a new advantage rule takes changes in {len(named)} files; at most four are wanted")
for name, steps in STEPS.items():
    text = (source / name).read_text()
    for anchor, addition in steps.items():
        if text.count(anchor) != 1:
            sys.exit(f"{name} has {anchor!r} {text.count(anchor)} times: change the step in {__file__}")
        text = text.replace(anchor, anchor + addition)
    (copies / name).parent.mkdir(parents=True, exist_ok=True)
    (copies / name).write_text(text)
