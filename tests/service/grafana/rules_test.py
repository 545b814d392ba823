#!/usr/bin/env python3
"""Dashboards are what the table of metrics gives; rules are well formed, tested and explained.

Each alert has a section in docs/runbooks.md, and in rules_test.yml a case of its name in which it fires for what is
called bad alone.
"""
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "deploy/grafana"))
sys.dont_write_bytecode = True
import make_dashboards  # noqa: E402  (found by the line above)


def anchors(page):
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def main():
    subprocess.run([ROOT / "deploy/grafana/make_dashboards.py", "--check"], check=True)
    named = {name for file in make_dashboards.SOURCES for name in re.findall(r'"(imageddpo_\w+)"', file.read_text())}
    assert named == set(make_dashboards.metrics()), f"not read from the table: {named ^ set(make_dashboards.metrics())}"

    rules = ROOT / "deploy/prometheus/rules.yml"
    subprocess.run(["promtool", "check", "rules", rules], check=True)
    subprocess.run(["promtool", "test", "rules", HERE / "rules_test.yml"], check=True)
    alerts = re.split(r"\n      - alert: ", rules.read_text())[1:]
    assert len(alerts) >= 11, f"only {len(alerts)} alerts"
    explained = anchors(ROOT / "docs/runbooks.md")
    cases = (HERE / "rules_test.yml").read_text().split("\n  - name: ")
    for alert in alerts:
        name = alert.split("\n", 1)[0]
        runbook = re.search(r"runbook: docs/runbooks\.md#(\S+)", alert)
        assert runbook and runbook[1] in explained, f"{name} has no section in docs/runbooks.md"
        case = [text for text in cases if text.startswith(name + "\n")]
        assert len(case) == 1, f"rules_test.yml has {len(case)} cases of {name}"
        fires = re.findall(r"labels: '(.*?)'", case[0])
        assert fires and all(name in labels and '"bad' in labels for labels in fires), f"{name} is not tested"
        assert '"good' in case[0], f"{name} has no case in which it is silent"


if __name__ == "__main__":
    main()
