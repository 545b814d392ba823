#!/usr/bin/env python3
"""Runs every query of the dashboards and rules against a real Prometheus that scrapes a real exporter.

  grafana_queries.py --exporter PROGRAM | --scrape HOST:PORT [--plain] [--timeout SECONDS]

--exporter starts a program that prints its port and ends with its standard input; --scrape takes a
service that runs. Prometheus gets deploy/prometheus/prometheus.yml with this address in it, its rules, a free
port and a folder of its own. A panel whose query fails, gives nothing, or gives NaN fails the test; so does a
recording rule without data, an alert that names a metric without data, and a rule that cannot be evaluated.
With --plain, panels that say "Only with ..." and metrics that only these show may have no data.
"""
import argparse
import json
import math
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "deploy/grafana"))
sys.dont_write_bytecode = True
import make_dashboards  # noqa: E402  (found by the line above)

CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
TARGET = "127.0.0.1:9464"
INTERVALS = ["scrape_interval: 5s", "evaluation_interval: 5s"]
# What Grafana puts in for its variables. Rates need two scrapes, one a second, in their window.
VARIABLES = {"$job_id": ".*", "$__rate_interval": "15s"}


class Failure(Exception):
    pass


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dashboard_queries(name):
    """(title, query, is it optional) of every target of every panel; the list of jobs too."""
    dashboard = json.loads((ROOT / f"deploy/grafana/dashboards/{name}.json").read_text())
    queries = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        if not panel.get("targets"):
            raise Failure(f"{name}: panel \"{panel['title']}\" has no query")
        optional = "Only with " in panel["description"]
        queries += [(f"{name}: {panel['title']}", target["expr"], optional) for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", ""))
        if match:
            queries.append((f"{name}: variable {variable['name']}", f"group by ({match[2]}) ({match[1]})", False))
    if len(queries) < 8:
        raise Failure(f"{name}.json has only {len(queries)} queries; is it whole?")
    return queries


def names_in(query):
    """The metrics of the service that a query reads."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name.endswith(("_bucket", "_sum", "_count")) else name
            for name in re.findall(r"\bimageddpo_\w+\b(?!:)", query)}


def rule_queries(prometheus, queries):
    """The same of what the rules read: records by their names, alerts by their metrics."""
    seldom = {name for _, query, optional in queries if optional for name in names_in(query)}
    seldom -= {name for _, query, optional in queries if not optional for name in names_in(query)}
    found = []
    for group in fetch(f"{prometheus.url}/api/v1/rules")["data"]["groups"]:
        for rule in group["rules"]:
            if rule["health"] == "err":
                raise Failure(f"rule {rule['name']}: {rule.get('lastError')}")
            if rule["type"] == "recording":
                found.append((f"rule {rule['name']}", rule["name"], False))
                continue
            for name in sorted(names_in(rule["query"])):
                found.append((f"alert {rule['name']}", f"count({name}) or count({name}_count)", name in seldom))
    if len(found) < 15:
        raise Failure(f"Prometheus has only {len(found)} queries of rules; are they all there?")
    return found


def fill(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    if "$" in query:
        raise Failure(f"{query}: a variable that this test does not know")
    return query


def check_names(queries):
    """Every metric that a query names is one of ours."""
    known = set(make_dashboards.metrics())
    for title, query, _ in queries:
        if unknown := names_in(query) - known:
            raise Failure(f'"{title}": no metric is called {", ".join(unknown)}')


class Prometheus:
    def __init__(self, folder, scrape):
        text = CONFIG.read_text()
        for needed in [TARGET, *INTERVALS]:
            if needed not in text:
                raise Failure(f"{CONFIG} no longer has {needed}")
        subprocess.run(["promtool", "check", "config", str(CONFIG)], check=True, stdout=subprocess.DEVNULL)
        config = folder / "prometheus.yml"
        for interval in INTERVALS:
            text = text.replace(interval, interval.replace("5s", "1s"))
        config.write_text(text.replace(TARGET, scrape))
        shutil.copy(CONFIG.with_name("rules.yml"), folder)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "prometheus.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self.url[len('http://'):]}"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def query(self, query):
        url = f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            return fetch(url)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise Failure(f"{query}: {json.load(error).get('error', error)}") from error

    def wait_for_scrapes(self, count, timeout_s):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"prometheus ended: {self.log.read_text()[-2000:]}")
            try:
                result = self.query("sum_over_time(up[1m])")
                if result and float(result[0]["value"][1]) >= count:
                    return
            except (OSError, Failure):
                pass
            time.sleep(0.3)
        raise Failure(f"no {count} good scrapes within {timeout_s} s: {self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def fault_of(result):
    if not result:
        return "gives nothing"
    if all(math.isnan(float(series["value"][1])) for series in result):
        return "gives NaN"
    return None


def check(prometheus, queries, plain, timeout_s):
    """Rates need a few scrapes, so what gives nothing is asked again until the time is over."""
    deadline = time.monotonic() + timeout_s
    left = [(title, fill(query), plain and optional) for title, query, optional in queries]
    while True:
        faults = [(*query, fault_of(prometheus.query(query[1]))) for query in left]
        faults = [fault for fault in faults if fault[3]]
        needed = [fault for fault in faults if not fault[2]]
        if not needed:
            return sorted({title for title, *_ in faults})
        if time.monotonic() > deadline:
            raise Failure("\n".join(f'"{title}" {fault}: {query}' for title, query, _, fault in needed))
        left = [fault[:3] for fault in faults]
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--exporter", help="program that prints its port")
    source.add_argument("--scrape", help="HOST:PORT of a service's /metrics")
    parser.add_argument("--plain", action="store_true", help="a job without what some panels need")
    parser.add_argument("--timeout", type=float, default=60)
    arguments = parser.parse_args()

    queries = [query for name in make_dashboards.DASHBOARDS for query in dashboard_queries(name)]
    check_names(queries)
    exporter = None
    scrape = arguments.scrape
    with tempfile.TemporaryDirectory(prefix="grafana-queries-") as folder:
        prometheus = None
        try:
            if arguments.exporter:
                exporter = subprocess.Popen([arguments.exporter], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True)
                scrape = f"127.0.0.1:{int(exporter.stdout.readline())}"
            prometheus = Prometheus(pathlib.Path(folder), scrape)
            prometheus.wait_for_scrapes(3, arguments.timeout)
            queries += rule_queries(prometheus, queries)
            empty = check(prometheus, queries, arguments.plain, arguments.timeout)
        finally:
            if prometheus:
                prometheus.stop()
            if exporter:
                exporter.stdin.close()
                exporter.wait(20)
    print(f"{len(queries)} queries against {scrape}: all answered"
          + (f"; empty, as they may be: {', '.join(empty)}" if empty else ""))


if __name__ == "__main__":
    try:
        main()
    except (Failure, subprocess.CalledProcessError, OSError, ValueError) as failure:
        print(f"grafana_queries: {failure}", file=sys.stderr)
        sys.exit(1)
