"""Changes copies of the sources in the steps that a section of CONTRIBUTING.md lists, for the tests that add something
in that way: the section's table has to name the files that are changed, and at most four."""
import pathlib
import re
import sys

MOST = 4


def table(text, section):
    """The files of the section's table."""
    found = re.search(rf"\n## {re.escape(section)}\n(.*?)\n## ", text, re.S)
    return re.findall(r"^\| `([^`]+)` \|", found[1], re.M) if found else []


def take(section, steps):
    """Called as SCRIPT SOURCE_DIR COPIES_DIR. steps: {file: {text that it has once: what to insert behind it}}"""
    source, copies = map(pathlib.Path, sys.argv[1:3])
    named = table((source / "CONTRIBUTING.md").read_text(), section)
    if named != list(steps):
        sys.exit(f"CONTRIBUTING.md, {section}, names {named}; this test changes {list(steps)}")
    if len(named) > MOST:
        sys.exit(f"CONTRIBUTING.md, {section}, takes changes in {len(named)} files; at most {MOST} are wanted")
    for name, insertions in steps.items():
        text = (source / name).read_text()
        for anchor, addition in insertions.items():
            if text.count(anchor) != 1:
                sys.exit(f"{name} has {anchor!r} {text.count(anchor)} times: change the step in {sys.argv[0]}")
            text = text.replace(anchor, anchor + addition)
        copy = copies / name.removeprefix("proto/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
