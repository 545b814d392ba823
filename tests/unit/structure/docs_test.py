#!/usr/bin/env python3
"""Links in the docs lead to files and headings that are there, and the map names every folder that has sources."""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(os.environ.get("IMAGEDDPO_SOURCE_DIR") or pathlib.Path(__file__).parents[3])
ROOMS = ("common", "deploy", "docker", "proto", "rollout", "tests", "trainer")


def pages():
    own = [path for path in ROOT.glob("*.md")]
    return own + [path for top in (*ROOMS, "docs") for path in (ROOT / top).rglob("*.md")]


def anchor(heading):
    """As GitHub makes it of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page):
    return {anchor(line.lstrip("#")) for line in page.read_text().splitlines() if re.match(r"#+ ", line)}


def bad_links():
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, heading = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                yield f"{page.relative_to(ROOT)}: {target} leads to no file"
            elif heading and heading not in anchors(file):
                yield f"{page.relative_to(ROOT)}: {target} leads to no heading"


def missing_folders():
    """Folders with a CMakeLists.txt of their own; those of unit tests mirror what they test."""
    text = (ROOT / "docs/architecture.md").read_text()
    for top in ROOMS:
        for lists in sorted((ROOT / top).rglob("CMakeLists.txt")):
            folder = str(lists.parent.relative_to(ROOT))
            if not folder.startswith("tests/unit/") and f"`{folder}`" not in text:
                yield f"docs/architecture.md does not name {folder}"


def old_api_page():
    """docs/api.md has every method, message and field as service.proto has them."""
    check = subprocess.run([sys.executable, ROOT / "docs/api_page.py", "--check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        yield check.stderr.strip()


faults = [*bad_links(), *missing_folders(), *old_api_page()]
for fault in faults:
    print(fault)
print(f"{len(pages())} pages, {len(faults)} faults")
sys.exit(bool(faults))
