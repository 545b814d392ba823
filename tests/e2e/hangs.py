"""A reward that hangs on a rank whose heartbeats go on is noticed within the job's `max_stage_seconds`, with the rank's stack in
the log. Where it no longer hangs, the job goes on and ends with the undisturbed run's LoRA and metrics, bit for bit; where it
hangs again and again, `pool.max_restarts` ends the job with that reason, also when it already hangs while it is tried out.
Afterwards all ranks are free.
"""
import json
import re
import subprocess
import time

import harness

LIMIT_S = 15
NOTICED_S = LIMIT_S + 20  # The last look is at most a second late; the rest is for a busy machine.
RESTARTS = 2
AT_WORK = ("sampling", "evaluating")  # On a CPU, a script computes when it is given the images.
WRITE_SCRIPT = harness.BIN.parent / "tests/reward_script"
# Never ends once a byte of the file is 1. The number of bytes, 1, is one that the compiler of scripts does not know, so that
# it reads the file in each call.
SCRIPT = """
def forward(self, generated):
  flag = torch.from_file("{flag}", False, generated.size(1) // 3, dtype=0)
  values = generated
  while bool((flag == 1).any()):
    values = values * 1.0
  return 1.0 - values.mean([1, 2, 3])
"""


class Reward:
    """Darkness, as long as it does not hang."""

    def __init__(self, directory):
        self.flag = directory / "flag"
        self.hang(False)
        self.model = directory / "hangs.pt"
        subprocess.run([WRITE_SCRIPT, self.model, json.dumps({"format": 1, "inputs": ["generated"]})],
                       input=SCRIPT.format(flag=self.flag), text=True, check=True)

    def hang(self, hangs):
        """In place: it is mapped."""
        with open(self.flag, "r+b" if self.flag.exists() else "wb", buffering=0) as file:
            file.write(b"\1" if hangs else b"\0")

    def job(self, directory, **changes):
        return harness.job(directory, rewards=[{"type": "torchscript", "model": str(self.model), "name": "dark"}], num_epochs=30,
                           max_stage_seconds=LIMIT_S, checkpoint={"every_epochs": 1}, eval={"max_images": 4}, **changes)


def hangs_of(service, job_id):
    """Stages in which ranks of the job hung, as each has logged it once."""
    return re.findall(rf"{job_id} hangs: stage '([^']+)' has made no progress for", service.log.read_text())


def start_hanging(service, reward, settings):
    job_id = service.submit(settings)
    service.wait(job_id, lambda j: j["progress"]["epoch"] >= 2, 240, f"epoch 2 of {job_id}")
    reward.hang(True)
    started = time.monotonic()
    harness.wait_for(lambda: hangs_of(service, job_id), NOTICED_S, "the hang to be noticed")
    print(f"{job_id}: noticed after {time.monotonic() - started:.0f} s", flush=True)
    return job_id


def goes_on(service, reward, directory):
    settings = reward.job(directory, topology={"rollout": 1, "trainer": 1})
    undisturbed = harness.outcome(service.run(settings))
    job_id = start_hanging(service, reward, settings)
    reward.hang(False)
    ended = service.wait_end(job_id)
    assert ended["state"] == "SUCCEEDED", (ended["state"], ended["state_reason"])
    assert ended["resume_count"] >= 1, ended
    assert hangs_of(service, job_id)[0] in AT_WORK, hangs_of(service, job_id)
    harness.assert_same(undisturbed, harness.outcome(ended), "after a hang")
    stack = service.log.read_text().split("Where it is:", 1)[1][:20000]
    assert "libtorch" in stack, f"no stack in the log:\n{stack[:3000]}"
    assert "its stack is in the rank's log" in service.log.read_text()


def ends(service, reward, directory):
    job_id = start_hanging(service, reward, reward.job(directory, topology={"colocated": 1}))
    ended = service.wait_end(job_id, (RESTARTS + 1) * (NOTICED_S + 30))
    assert ended["state"] == "FAILED", ended
    for word in ("made no progress", "max_stage_seconds", f"restarted {RESTARTS} times"):
        assert word in ended["state_reason"], ended["state_reason"]
    harness.wait_for(lambda: len(hangs_of(service, job_id)) > RESTARTS, 10, "the log of the last hang")
    stages = hangs_of(service, job_id)
    assert len(stages) == RESTARTS + 1 and stages[0] in AT_WORK and set(stages[1:]) == {"trying out the reward"}, stages
    reward.hang(False)


with harness.workspace() as directory, harness.Service(directory, 4, max_restarts=RESTARTS) as service:
    reward = Reward(directory)
    goes_on(service, reward, directory)
    ends(service, reward, directory)
    # All three workers are needed, and there.
    service.run(harness.job(directory, num_epochs=2, topology={"colocated": 3}, device={"device_batch_size": 2}))
print("ok")
