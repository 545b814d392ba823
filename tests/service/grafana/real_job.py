#!/usr/bin/env python3
"""The queries of dashboards and rules, and a trace, of a real job: three ranks, one of them rollout, one trainer, sampling ahead."""
import json
import pathlib
import subprocess
import sys
import threading
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "e2e"))
sys.dont_write_bytecode = True
import harness  # noqa: E402  (found by the line above)


def run(directory):
    """The folder of the job, when the service has ended and all files are written."""
    with harness.Service(directory, 3) as service:
        job_id = service.submit(harness.job(directory, num_epochs=100000, eval={"every_epochs": 2},
                                            checkpoint={"every_epochs": 2}, sample={"max_staleness": 1}))
        service.wait(job_id, lambda job: job["progress"]["epoch"] >= 3 and job["lora_path"], 300, "three epochs")
        address = json.loads((service.data_dir / "service.json").read_text())["http_address"]
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as reply:
            assert reply.status == 200, reply.status

        done = threading.Event()

        def call():
            while not done.wait(0.5):
                service.client("list")

        caller = threading.Thread(target=call)
        caller.start()
        try:
            subprocess.run([HERE / "grafana_queries.py", "--scrape", address, "--plain"], check=True)
        finally:
            done.set()
            caller.join()
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            subprocess.run(["promtool", "check", "metrics"], input=reply.read(), check=True)
        traces = service.client("profile", job_id).stdout.split()
        assert len(traces) == 2, traces  # A rollout and a trainer rank.
        events = [event for trace in traces for event in json.loads(pathlib.Path(trace).read_text())["traceEvents"]]
        assert {"publish", "rollout", "sample", "wait for scores", "send", "wait for samples", "train", "micro-batch",
                "exchange of numbers", "optimizer"} <= {event["name"] for event in events}, events
        assert len({event["pid"] for event in events}) == 2, events
        service.client("cancel", job_id)
        ended = service.wait_end(job_id)
        assert ended["state"] == "CANCELLED", ended["state"]
        return service.data_dir / "jobs" / job_id


def main():
    with harness.workspace() as directory:
        job = run(directory)
        if (harness.ROOT / "third_party/tensorboard").is_dir():
            subprocess.run(["/usr/bin/python3", HERE / "tensorboard_loader.py", job], check=True)
        else:
            print("TensorBoard's own loader was not run: deploy/setup.sh --ci unpacks it")


if __name__ == "__main__":
    main()
