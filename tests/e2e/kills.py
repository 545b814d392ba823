"""Rank 0 alone, a worker alone (and no spare: only a restart of all brings it back), everything killed in
the middle of a job: it goes on by itself and ends with the undisturbed run's LoRA and metrics, bit for
bit; `get` says that it was resumed. In lock-step, and with sampling one epoch ahead, where the samples of
the next epoch are of a version before the checkpoint's.

usage: kills.py [ROUNDS]
"""
import contextlib
import os
import random
import signal
import sys

import harness

CHANGES = {"num_epochs": 12, "topology": {"rollout": 1, "trainer": 1}}
VICTIMS = {"rank 0": lambda ranks: [0], "a worker": lambda ranks: [random.choice([1, 2])], "everything": lambda ranks: ranks}
VICTIMS_AT = {0: ["rank 0", "a worker", "everything"], 1: ["a worker", "everything"]}  # By max_staleness.


def job(directory, staleness):
    return harness.job(directory, **CHANGES, sample={"max_staleness": staleness})


def disturbed(directory, name, ranks_of, staleness):
    with harness.Service(directory, 3) as service:
        settings = job(directory, staleness)
        job_id = service.submit(settings)
        at = random.randint(2, 6)
        service.wait(job_id, lambda j: j["progress"]["epoch"] >= at, 240, f"epoch {at} of {job_id}")
        pids = service.pids()
        for rank in ranks_of(sorted(pids)):
            # Where the others are gone already it may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[rank], signal.SIGKILL)
        ended = service.wait_end(job_id, 300)
        assert ended["state"] == "SUCCEEDED", f"{name}: {ended['state']} {ended['state_reason']}"
        assert ended["resume_count"] >= 1, f"{name} was killed after epoch {at} but get does not say resumed: {ended}"
        assert ended["resumed_from_epoch"] >= 1, ended
        print(f"{name} killed after epoch {at}: resumed from {ended['resumed_from_epoch']}", flush=True)
        return harness.outcome(ended)


with harness.workspace() as directory:
    for staleness, victims in VICTIMS_AT.items():
        with harness.Service(directory, 3) as service:
            undisturbed = harness.outcome(service.run(job(directory, staleness)))
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
            for victim in victims:
                found = disturbed(directory, victim, VICTIMS[victim], staleness)
                harness.assert_same(undisturbed, found, f"{victim} killed at staleness {staleness}")
print("ok")
