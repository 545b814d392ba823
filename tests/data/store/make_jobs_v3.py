#!/usr/bin/env python3
"""Writes jobs-v3.sql, a job store as schema version 3 stored it, on which a test tries every later migration.

    tests/data/store/make_jobs_v3.py > tests/data/store/jobs-v3.sql

The steps of the schema that were released never change, so the file can be made anew at any time.
"""
import pathlib
import re
import sqlite3
import subprocess

VERSION = 3
ROOT = pathlib.Path(__file__).resolve().parents[3]


def message(name, text):
    """A message of the API in its binary form."""
    command = ["protoc", f"--proto_path={ROOT}/proto", f"--encode=imageddpo.v1.{name}", "imageddpo/v1/service.proto"]
    return subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout


def main():
    source = (ROOT / "trainer/controller/store/job_store_schema.cc").read_text()
    steps = re.findall(r'R"sql\((.*?)\)sql"', source, re.DOTALL)[:VERSION]
    database = sqlite3.connect(":memory:")
    for step in steps:
        database.executescript(step)
    common = {"request_sha256": "hash", "create_time_ms": 1700000000000, "restarts_without_epoch": 0, "warnings": "[]"}
    jobs = [
        {**common, "number": 1, "id": "job-000001", "request_id": "first", "state": "SUCCEEDED", "reason": "",
         "spec": message("JobSpec", 'name: "ended" seed: 7 num_epochs: 4'),
         "progress": message("JobProgress", "epoch: 4 num_epochs: 4 samples_seen: 256"),
         "start_time_ms": 1700000001000, "end_time_ms": 1700000009000, "resume_count": 2, "resumed_from_epoch": 3,
         "topology": "colocated 1", "lora_path": "checkpoints/epoch-000004/pytorch_lora_weights.safetensors",
         "warnings": '["slow disk"]', "last_event": 2, "epochs_reported": 4, "eval_reported": 4,
         "checkpoint_reported": 4, "best_lora_path": "best", "best_epoch": 3, "best_value": 0.5, "owner": "alice",
         "topology_reason": "the fastest", "priority": 5, "labels": '{"sweep": "rates"}'},
        {**common, "number": 2, "id": "job-000002", "request_id": None, "state": "PAUSED", "reason": "paused by request",
         "spec": message("JobSpec", 'name: "paused" num_epochs: 9'),
         "progress": message("JobProgress", 'epoch: 1 num_epochs: 9 waiting_for: ""'),
         "start_time_ms": 1700000002000, "end_time_ms": 0, "resume_count": 0, "resumed_from_epoch": -1,
         "topology": "rollout 1, trainer 1", "lora_path": "", "last_event": 1, "epochs_reported": 1, "eval_reported": -1,
         "checkpoint_reported": -1, "branched_from": "job-000001", "branched_from_epoch": 1},
    ]
    for job in jobs:
        names = ", ".join(job)
        database.execute(f"INSERT INTO jobs ({names}) VALUES ({', '.join('?' * len(job))})", list(job.values()))
    events = [(1, 1, "number: 1 time { seconds: 1700000000 } state { state: QUEUED }"),
              (1, 2, "number: 2 time { seconds: 1700000009 } state { state: SUCCEEDED }"),
              (2, 1, 'number: 1 time { seconds: 1700000003 } warning { message: "w" }')]
    for job_number, number, text in events:
        database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (job_number, number, 0, message("JobEvent", text)))
    database.commit()
    print(f"-- Written by {pathlib.Path(__file__).name}.")
    print("PRAGMA foreign_keys = OFF;")  # Tables come in alphabetical order.
    for line in database.iterdump():
        print(line)
    print("PRAGMA foreign_keys = ON;")
    print(f"PRAGMA user_version = {VERSION};")


if __name__ == "__main__":
    main()
