"""A random worker is killed or stopped at a random moment, again and again, in a pool with spares: every job
goes on by itself and ends with the undisturbed LoRA and metrics, bit for bit; what was stopped is noticed
within the deadline and nothing of it is left behind.

usage: random_kills.py [ROUNDS [SEED]]   a round is one kill
"""
import random
import re
import signal
import sys
import time

import harness

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
KILLS_A_JOB = 4
SILENCE_S = 3
TOPOLOGIES = ["auto", {"rollout": 2, "trainer": 2, "min_rollout": 1, "min_trainer": 1},
              {"colocated": 3, "min_colocated": 1}, {"rollout": 1, "trainer": 1}]


def hit_one(service, job_id, dice):
    """Sends the signal to a worker, of this job four times out of five. Returns what it did."""
    pids = {rank: pid for rank, pid in service.pids().items() if rank != 0 and harness.state_of(pid) not in ("T", "Z", None)}
    own = [rank for rank in service.ranks_of(job_id) if rank in pids]
    if not pids:
        return None
    rank = dice.choice(own if own and dice.random() < 0.8 else sorted(pids))
    number = signal.SIGSTOP if dice.random() < 0.3 else signal.SIGKILL
    try:
        service.kill(rank, number)
    except (OSError, KeyError):  # It has ended since.
        return None
    return rank, number, pids[rank]


def disturbed(service, directory, topology, kills, dice):
    job_id = service.submit(settings(directory, topology))
    stopped = []
    for _ in range(kills):
        hit = None
        while hit is None:
            running = service.wait(job_id, lambda j: j["state"] not in ("QUEUED", "RECOVERING"), 120, f"{job_id} to run")
            time.sleep(dice.random() * 2)
            if service.get(job_id) is not None:
                hit = hit_one(service, job_id, dice)
        rank, number, pid = hit
        print(f"  {job_id} ({running['topology']}), epoch {running['progress']['epoch']}: {signal.Signals(number).name} to rank {rank}",
              flush=True)
        if number == signal.SIGSTOP:
            stopped.append(pid)
    ended = service.wait_end(job_id, 300)
    assert ended["state"] == "SUCCEEDED", f"{ended['state']}: {ended['state_reason']}\n{service.log.read_text()[-6000:]}"
    harness.wait_for(lambda: not any(harness.state_of(pid) == "T" for pid in stopped), 30, "the stopped processes to be killed")
    print(f"  {job_id} resumed {ended['resume_count']} times", flush=True)
    return harness.outcome(ended)


def settings(directory, topology):
    return harness.job(directory, num_epochs=10, checkpoint={"every_epochs": 1}, topology=topology,
                       device={"device_batch_size": 2})


print(f"seed {SEED}", flush=True)
dice = random.Random(SEED)
with harness.workspace() as directory, harness.Service(directory, 9, heartbeat_timeout_seconds=SILENCE_S, max_restarts=50) as service:
    undisturbed = harness.outcome(service.run(settings(directory, "auto")))
    left = ROUNDS
    while left > 0:
        kills = min(left, KILLS_A_JOB)
        topology = TOPOLOGIES[(ROUNDS - left) // KILLS_A_JOB % len(TOPOLOGIES)]
        harness.assert_same(undisturbed, disturbed(service, directory, topology, kills, dice), f"{kills} kills, {topology}")
        left -= kills
    silences = [float(seconds) for seconds in re.findall(r"error rank 0: lost .* no heartbeat for ([0-9.]+) s", service.log.read_text())]
    print(f"{len(silences)} silences, longest {max(silences, default=0)} s", flush=True)
    assert all(seconds < SILENCE_S + 2 for seconds in silences), silences
print("ok")
