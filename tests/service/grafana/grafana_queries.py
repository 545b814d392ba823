#!/usr/bin/env python3
"""Runs every query of the Grafana dashboard against a real Prometheus that scrapes a real exporter.

  grafana_queries.py --exporter PROGRAM | --scrape HOST:PORT [--may-be-empty TITLE ...] [--timeout SECONDS]

--exporter starts a program that prints its port and ends with its standard input; --scrape takes a
service that runs. Prometheus gets deploy/prometheus/prometheus.yml with this address in it, a free port
and a folder of its own. A panel whose query fails, gives nothing, or gives NaN fails the test; a panel
named by --may-be-empty may give nothing or NaN, for services in which, say, nothing was evaluated.
"""
import argparse
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy/grafana/imageddpo.json"
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
NAMES = [ROOT / "common/metrics" / file for file in ("names.h", "epoch_metrics.cc")]
TARGET = "127.0.0.1:9464"
INTERVAL = "scrape_interval: 5s"
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


def dashboard_queries():
    """(title, query) of every target of every panel; the list of jobs too."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        if not panel.get("targets"):
            raise Failure(f"panel \"{panel['title']}\" has no query")
        queries += [(panel["title"], target["expr"]) for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", ""))
        if match:
            queries.append((f"variable {variable['name']}", f"group by ({match[2]}) ({match[1]})"))
    if len(queries) < 10:
        raise Failure(f"{DASHBOARD} has only {len(queries)} queries; is it whole?")
    return queries


def fill(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    if "$" in query:
        raise Failure(f"{query}: a variable that this test does not know")
    return query


def check_names(queries):
    """Every metric that a query names is one of ours."""
    known = {name for file in NAMES for name in re.findall(r'"(imageddpo_\w+)"', file.read_text())}
    for title, query in queries:
        for name in re.findall(r"\bimageddpo_\w+", query):
            if name not in known and re.sub(r"_(bucket|sum|count)$", "", name) not in known:
                raise Failure(f'panel "{title}": {name} is in neither of {[file.name for file in NAMES]}')


class Prometheus:
    def __init__(self, folder, scrape):
        text = CONFIG.read_text()
        if TARGET not in text or INTERVAL not in text:
            raise Failure(f"{CONFIG} no longer has {TARGET} and {INTERVAL}")
        subprocess.run(["promtool", "check", "config", str(CONFIG)], check=True, stdout=subprocess.DEVNULL)
        config = folder / "prometheus.yml"
        config.write_text(text.replace(TARGET, scrape).replace(INTERVAL, "scrape_interval: 1s"))
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


def check(prometheus, queries, may_be_empty, timeout_s):
    """Rates need a few scrapes, so what gives nothing is asked again until the time is over."""
    deadline = time.monotonic() + timeout_s
    left = [(title, fill(query)) for title, query in queries]
    while True:
        faults = [(title, query, fault_of(prometheus.query(query))) for title, query in left]
        faults = [(title, query, fault) for title, query, fault in faults if fault]
        needed = [fault for fault in faults if fault[0] not in may_be_empty]
        if not needed:
            return [title for title, _, _ in faults]
        if time.monotonic() > deadline:
            raise Failure("\n".join(f'panel "{title}" {fault}: {query}' for title, query, fault in needed))
        left = [(title, query) for title, query, _ in faults]
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--exporter", help="program that prints its port")
    source.add_argument("--scrape", help="HOST:PORT of a service's /metrics")
    parser.add_argument("--may-be-empty", action="append", default=[], metavar="TITLE")
    parser.add_argument("--timeout", type=float, default=60)
    arguments = parser.parse_args()

    queries = dashboard_queries()
    unknown = set(arguments.may_be_empty) - {title for title, _ in queries}
    if unknown:
        raise Failure(f"--may-be-empty: there is no panel {sorted(unknown)}")
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
            empty = check(prometheus, queries, set(arguments.may_be_empty), arguments.timeout)
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
