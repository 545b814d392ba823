"""A job that is paused, cancelled and resumed at random epochs, also from an earlier checkpoint, ends with the
undisturbed run's LoRA and metrics, bit for bit; in lock-step and with sampling one epoch ahead.

usage: pause.py [SEED]
"""
import random
import sys

import harness

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
EPOCHS = 12


def settings(directory, staleness):
    return harness.job(directory, num_epochs=EPOCHS, topology={"rollout": 1, "trainer": 1}, checkpoint={"every_epochs": 6},
                       sample={"max_staleness": staleness, "batch_size": 8, "num_batches_per_epoch": 2})


def wait_for_epoch(service, job_id, epoch):
    return service.wait(job_id, lambda j: j["state"] == "RUNNING" and j["progress"]["epoch"] >= epoch, 240, f"epoch {epoch}")


def stop(service, job_id, verb, flags, state):
    """Returns the epoch after which the job has stopped, which is that of its newest checkpoint."""
    before = service.get(job_id)["progress"]["epoch"]
    service.client(verb, job_id, *flags)
    job = service.wait(job_id, lambda j: j["state"] == state, 120, f"{job_id} to be {state}")
    epoch = job["progress"]["epoch"]
    assert f"/epoch-{epoch:06d}/" in job["lora_path"], (epoch, job["lora_path"])
    assert epoch >= before, f"{verb} {flags} lost epochs: {before}, then {epoch}"
    print(f"{verb} {' '.join(flags)}: stopped after epoch {epoch}", flush=True)
    return epoch


def resume(service, job_id, epoch, *flags):
    service.client("resume", job_id, *flags)
    job = service.wait(job_id, lambda j: j["state"] in ("STARTING", "RUNNING", "SUCCEEDED"), 120, f"{job_id} to be resumed")
    assert job["resumed_from_epoch"] == epoch, job


def disturbed(service, job, dice):
    job_id = service.submit(job)
    first, second, third = sorted(dice.sample(range(1, EPOCHS - 6), 3))
    wait_for_epoch(service, job_id, first)
    resume(service, job_id, stop(service, job_id, "pause", [], "PAUSED"))
    wait_for_epoch(service, job_id, second)
    resume(service, job_id, stop(service, job_id, "pause", ["--now"], "PAUSED"))
    wait_for_epoch(service, job_id, third)
    stop(service, job_id, "cancel", [], "CANCELLED")
    refused = service.client("resume", job_id, "--from-epoch", "99", check=False)
    assert refused.returncode == 2 and "there is no checkpoint of epoch 99; choose one of" in refused.stderr, refused
    earlier = int(refused.stderr.split("that there are: ")[1].split(",")[0])
    resume(service, job_id, earlier, "--from-epoch", str(earlier))
    ended = service.wait_end(job_id, 300)
    assert ended["state"] == "SUCCEEDED", ended
    assert ended["resume_count"] == 3, ended["resume_count"]
    return harness.outcome(ended)


print(f"seed {SEED}", flush=True)
dice = random.Random(SEED)
with harness.workspace() as directory, harness.Service(directory, 3) as service:
    for staleness in (0, 1):
        job = settings(directory, staleness)
        undisturbed = harness.outcome(service.run(job))
        harness.assert_same(undisturbed, disturbed(service, job, dice), f"paused and resumed at staleness {staleness}")
print("ok")
