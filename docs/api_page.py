#!/usr/bin/env python3
"""Writes the part of docs/api.md below its mark from service.proto and the table of who may call what.

    python3 docs/api_page.py            writes it
    python3 docs/api_page.py --check    says whether it is up to date; a test calls it so
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/api.md"
MARK = "<!-- What follows is written by docs/api_page.py from service.proto. -->\n"
ROLES = {"kReads": "viewer", "kMakesJob": "submitter", "kChangesJob": "submitter, of own jobs", "kChangesCluster": "admin"}
FIELD = re.compile(r"(?P<type>(?:repeated |optional )?(?:map<[^>]+>|[\w.]+)) (?P<name>\w+) = (?P<number>\d+);")


def roles():
    table = (ROOT / "trainer/controller/api/method_rules.cc").read_text()
    return {method: ROLES.get(rule, rule) for method, rule in re.findall(r'\{"(\w+)", (k\w+)\}', table)}


def parse(text):
    """Methods as (name, signature, comment), and messages and enums as (kind, name, comment, rows of name, type, comment)."""
    methods, types, comment, stack = [], [], [], []
    for line in text.splitlines():
        code, _, note = line.strip().partition("//")
        code, note = code.strip(), note.strip()
        if not code:
            comment = [*comment, note] if note else []
            continue
        comment = [*comment, note] if note else comment
        if match := re.match(r"rpc (\w+)\((\w+)\) returns \(((?:stream )?\w+)\);", code):
            methods.append((match[1], f"{match[2]} → {match[3]}", " ".join(comment)))
        elif match := re.match(r"(message|enum|service|oneof) (\w+) \{(\})?", code):
            if match[1] in ("message", "enum"):
                types.append((match[1], match[2], " ".join(comment), []))
            if not match[3]:
                stack.append(match[1])
        elif code == "}":
            stack.pop()
        elif stack and stack[-1] == "enum" and (match := re.match(r"(\w+) = (\d+);", code)):
            types[-1][3].append((match[1], match[2], " ".join(comment)))
        elif match := FIELD.match(code):
            types[-1][3].append((match["name"], match["type"], " ".join(comment)))
        comment = []
    return methods, types


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def generated():
    methods, types = parse((ROOT / "proto/imageddpo/v1/service.proto").read_text())
    may = roles()
    lines = ["", "## Methods", ""]
    for name, signature, comment in methods:
        lines += [f"### {name}", "", f"`{signature}`, for the role {may.get(name, 'admin')}. {cell(comment)}", ""]
    lines += ["## Messages", ""]
    for kind, name, comment, rows in types:
        lines += [f"### {name}", ""]
        lines += [cell(comment), ""] if comment else []
        if not rows:
            lines += ["It has no fields.", ""]
            continue
        lines += [f"| {'value | number' if kind == 'enum' else 'field | type'} | |", "|---|---|---|"]
        lines += [f"| `{row[0]}` | {cell(row[1])} | {cell(row[2])} |" for row in rows]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main():
    head, mark, old = PAGE.read_text().partition(MARK)
    assert mark, f"{PAGE} has no line {MARK}"
    new = generated()
    if "--check" in sys.argv[1:]:
        if old != new:
            sys.exit("docs/api.md is older than service.proto: python3 docs/api_page.py writes it again")
    else:
        PAGE.write_text(head + mark + new)


if __name__ == "__main__":
    main()
