"""data_dir's disk is really full (a small tmpfs) under one running and two queued jobs: none fails, `get` says why they
wait, the workers keep their leases, and when there is space again all go on without a hand and end with the
undisturbed runs' LoRAs and metrics, bit for bit; `submit --watch` returns.
"""
import json
import subprocess
import sys
import time

import harness

SEEDS = (5, 6, 7)
WAITS = "waits for the service's disk"

if refusal := harness.own_mounts():
    print(f"not run, since {refusal}")
    sys.exit(77)


def settings(directory, seed):
    return harness.job(directory, seed=seed, num_epochs=12, topology={"rollout": 1, "trainer": 1})


def run(directory, service):
    undisturbed = [harness.outcome(service.run(settings(directory, seed))) for seed in SEEDS]

    jobs = [service.submit(settings(directory, seed)) for seed in SEEDS[:2]]
    job_file = directory / "watched.yaml"
    job_file.write_text(json.dumps(settings(directory, SEEDS[2])))
    with subprocess.Popen([harness.BIN / "imageddpo", "--service-file", service.data_dir / "service.json", "submit", job_file,
                           "--watch"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watcher:
        jobs.append(f"job-{int(jobs[1][-6:]) + 1:06}")
        harness.wait_for(lambda: service.get(jobs[2]), 60, "the watched job to be submitted")
        service.wait(jobs[0], lambda j: j["progress"]["epoch"] >= 2, 240, "epoch 2 of the first job")
        before = service.pids()
        filler = service.data_dir / "filler"
        harness.fill(filler)
        for job_id in jobs:
            waiting = service.wait(job_id, lambda j: WAITS in j["state_reason"], 240, f"{job_id} to say that it waits for the disk")
            print(f"{job_id} {waiting['state']}: {waiting['state_reason']}", flush=True)
        time.sleep(20)  # Longer than a lease; several tries.
        states = [service.get(job_id)["state"] for job_id in jobs]
        assert states == ["RUNNING", "QUEUED", "QUEUED"], states
        assert service.pids() == before, "processes were restarted"
        filler.unlink()

        ended = [service.wait_end(job_id) for job_id in jobs]
        output, _ = watcher.communicate(timeout=120)
        assert watcher.returncode == 0, output
    for job, undisturbed_outcome, seed in zip(ended, undisturbed, SEEDS):
        assert job["state"] == "SUCCEEDED", (job["state"], job["state_reason"])
        assert job["resume_count"] == 0, job
        harness.assert_same(undisturbed_outcome, harness.outcome(job), f"seed {seed}")


with harness.workspace() as directory, harness.small_disk(directory / "service"), harness.Service(directory, 3) as service:
    run(directory, service)
print("ok")
