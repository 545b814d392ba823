"""What a job does when its reward service fails: a function here for every line of the table in docs/rewards.md."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import rewards_harness
from rewards_harness import harness

sys.dont_write_bytecode = True
SCRIPT = rewards_harness.HERE / "reward_process.py"
TABLE = (harness.ROOT / "docs/rewards.md").read_text().split("\n| the service | what the job does |\n")[1].split("\n\n")[0]


class Bench:
    """A running service, and rewards and jobs for it."""

    def __init__(self, directory, service, package):
        self.directory, self.service, self.package = directory, service, package
        self.reference = None

    def address(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{taken.getsockname()[1]}"

    def reward(self, address, fault="", call=1):
        return rewards_harness.Process(self.package, SCRIPT, address, fault, call,
                                       log=self.directory / f"reward-{time.monotonic_ns()}.log")

    def job(self, *addresses, **settings):
        reward = {"type": "service", "endpoints": list(addresses), "name": "mean", "weight": 10, "timeout_seconds": 30,
                  "max_retries": 1, **settings}
        return harness.job(self.directory, eval={"max_images": 4}, rewards=[reward], sample={"batch_size": 8},
                           train={"batch_size": 8}, num_epochs=2, checkpoint={"every_epochs": 1}, topology={"rollout": 1, "trainer": 1})

    def run(self, *addresses, **settings):
        ended = self.service.run(self.job(*addresses, **settings))
        harness.assert_same(self.reference, harness.outcome(ended), "a job with trouble")
        return ended

    def fails(self, job, *words, epochs=None):
        """Submits it; it has to fail of itself, without a restart, with these words."""
        ended = self.service.wait_end(self.service.submit(job), 60)
        assert ended["state"] == "FAILED" and ended["resume_count"] == 0, ended
        for word in words:
            assert word in ended["state_reason"], (word, ended["state_reason"])
        if epochs is not None:
            assert ended["progress"]["epoch"] == epochs, ended["progress"]
        return ended

    def pauses(self, job_id, *words, epochs):
        """Waits until the job has paused of itself, with these words."""
        job = self.service.wait(job_id, lambda j: j["state"] == "PAUSED", 60, "the job to pause")
        for word in words:
            assert word in job["state_reason"], (word, job["state_reason"])
        assert job["progress"]["epoch"] == epochs and "end_time" not in job, job
        return job

    def wait_until_waiting(self, job_id, *words):
        job = self.service.wait(job_id, lambda j: j["progress"].get("waiting_for"), 60, "the job to wait")
        for word in ("reward service 'mean'", "since 20", *words):
            assert word in job["progress"]["waiting_for"], job["progress"]
        return job

    def succeeds(self, job_id):
        ended = self.service.wait_end(job_id, 120)
        assert ended["state"] == "SUCCEEDED" and ended["resume_count"] == 0, ended
        assert not ended["progress"]["waiting_for"], ended["progress"]
        harness.assert_same(self.reference, harness.outcome(ended), "a job that waited")
        return ended


def is_slow(bench):
    address = bench.address()
    with bench.reward(address, "slow"):
        bench.run(address)


def is_too_slow(bench):
    address = bench.address()
    with bench.reward(address, "too_slow"):
        bench.fails(bench.job(address, timeout_seconds=0.5), "no answer within 500ms", "although it is healthy",
                    "`timeout_seconds`", "2 tries", address, "'mean'")


def hangs(bench):
    address = bench.address()
    with bench.reward(address, "hangs", 4) as reward:
        job = bench.service.submit(bench.job(address, timeout_seconds=1))
        bench.wait_until_waiting(job, "no answer within 1s")
        reward.process.send_signal(signal.SIGCONT)
        bench.succeeds(job)


def dies(bench):
    address = bench.address()
    with bench.reward(address, "dies", 6):
        job = bench.service.submit(bench.job(address, max_outage_seconds=1.5))
        paused = bench.pauses(job, "waited", "`max_outage_seconds`", address, "by itself", epochs=1)
    assert os.path.exists(paused["lora_path"]), paused  # The checkpoint of the epoch before.
    assert "reward service 'mean'" in paused["progress"]["waiting_for"], paused
    shown = bench.service.client("get", job).stdout
    assert "PAUSED" in shown and "waits for" in shown, shown
    other = bench.address()
    with bench.reward(other):
        bench.run(other)  # On the same ranks.
    assert bench.service.get(job)["state"] == "PAUSED"
    with bench.reward(address):
        ended = bench.service.wait_end(job, 180)
    assert ended["state"] == "SUCCEEDED" and ended["resumed_from_epoch"] == 1 and not ended["progress"]["waiting_for"], ended
    harness.assert_same(bench.reference, harness.outcome(ended), "a job that was paused by an outage")


def is_away_while_the_job_is_paused_by_its_owner(bench):
    address = bench.address()
    job = bench.service.submit(bench.job(address, max_outage_seconds=1))
    bench.pauses(job, "connection refused", epochs=0)
    bench.service.client("pause", job)
    with bench.reward(address):
        time.sleep(8)  # The first question would have come after 5 s.
        paused = bench.service.get(job)
        assert paused["state"] == "PAUSED" and not paused["progress"]["waiting_for"], paused
        assert paused["state_reason"] == "paused by request", paused
        bench.service.client("resume", job)
        ended = bench.service.wait_end(job, 120)
    assert ended["state"] == "SUCCEEDED", ended
    harness.assert_same(bench.reference, harness.outcome(ended), "a job that was paused and resumed")


def restarts(bench):
    address = bench.address()
    with bench.reward(address, "dies", 4):
        job = bench.service.submit(bench.job(address))
        waiting = bench.wait_until_waiting(job, address)
    shown = bench.service.client("get", job).stdout
    assert "waits for" in shown and address in shown, shown
    with bench.reward(address):
        ended = bench.succeeds(job)
    assert any(waiting["progress"]["waiting_for"] in warning for warning in ended["warnings"]), ended["warnings"]


def loses_one_of_two_replicas(bench):
    first, second = bench.address(), bench.address()
    with bench.reward(first, "dies", 2), bench.reward(second):
        bench.run(first, second)


def is_not_there_when_the_job_starts(bench):
    address = bench.address()
    job = bench.service.submit(bench.job(address))
    assert bench.wait_until_waiting(job, "connection refused")["state"] == "STARTING"
    with bench.reward(address):
        bench.succeeds(job)


def raises_an_exception(bench):
    address = bench.address()
    with bench.reward(address, "raises"):
        bench.fails(bench.job(address), "KeyError: 'artist'", "reward_process.py:", "2 tries", address, epochs=0)


def returns_nan(bench):
    address = bench.address()
    with bench.reward(address, "nan", 3):
        bench.fails(bench.job(address), "reward 'mean' of image '", "the value nan is not finite", address)


def cannot_score_some_images(bench):
    """Each batch has an image that cannot be scored; then one fails as a whole."""
    address = bench.address()
    with bench.reward(address, "items", 3):
        job = bench.job(address, on_error="drop", max_dropped=0.5)
        ended = bench.service.wait_end(bench.service.submit(job), 120)
    assert ended["state"] == "SUCCEEDED" and ended["resume_count"] == 0, ended
    rows = [json.loads(row) for row in harness.outcome(ended)["metrics"].splitlines()]
    assert all(row["parts_mean"]["mean.dropped"] == 0.25 and row["grad_norm"] > 0 for row in rows), rows
    # What is left out is in no mean: those of the images that have a value.
    assert all(abs(row["reward_mean"] - 10 * row["parts_mean"]["mean.value"]) < 1e-9 for row in rows), rows
    assert all(row["parts_mean"]["mean.labelled"] == 1 for row in rows), rows
    with bench.reward(address, "raises_later", 4):
        job = bench.service.submit(bench.job(address, on_error="drop"))
        paused = bench.pauses(job, "reward 'mean' has no finite value for", "of the 8 samples of epoch 0", "`max_dropped` (0.1)",
                              "the first, image '", "KeyError: 'artist'", "2 tries", address, "`imageddpo resume`", epochs=0)
    assert not paused["progress"]["waiting_for"], paused
    with bench.reward(address):  # Corrected: the epoch is scored anew.
        bench.service.client("resume", job)
        ended = bench.service.wait_end(job, 120)
    assert ended["state"] == "SUCCEEDED", ended
    assert harness.outcome(ended)["lora"] == bench.reference["lora"], "a job that was resumed after too many errors"


def answers_too_few_items(bench):
    address = bench.address()
    with bench.reward(address, "few", 3):
        bench.fails(bench.job(address), "it answered 3 items for 4 images", address)


def speaks_another_version_of_the_api(bench):
    address = bench.address()
    with bench.reward(address, "api"):
        bench.fails(bench.job(address), "it speaks version 7 of the reward API", address, epochs=0)


def comes_back_as_another_version_of_the_reward(bench):
    address = bench.address()
    with bench.reward(address, "dies", 4):
        job = bench.service.submit(bench.job(address))
        bench.wait_until_waiting(job)
    with bench.reward(address, "version"):
        ended = bench.service.wait_end(job, 60)
    assert ended["state"] == "FAILED" and "its version is '2' and was '1'" in ended["state_reason"], ended


def changes_the_names_of_its_parts(bench):
    address = bench.address()
    with bench.reward(address, "parts", 3):
        bench.fails(bench.job(address), "its parts are other, and were labelled", "2 tries")


def answers_64_mb(bench):
    address = bench.address()
    with bench.reward(address, "large"):
        bench.fails(bench.job(address), "larger than 16 MiB", address, epochs=0)


def refuses_the_token(bench):
    address = bench.address()
    token = bench.directory / "token.txt"
    with bench.reward(address, "token"):
        bench.fails(bench.job(address), "it refuses the token", "no token was sent", "`token_file`")
        token.write_text("wrong\n")
        bench.fails(bench.job(address, token_file=str(token)), "wrong token")
        token.write_text("secret\n")
        bench.run(address, token_file=str(token))


def works_over_tls(bench):
    """No line of the table: what works."""
    address = bench.address()
    certificate, key = bench.directory / "server.crt", bench.directory / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=reward", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    token = bench.directory / "tls-token.txt"
    token.write_text("secret\n")
    with bench.reward(address, f"token,{certificate},{key}"):
        bench.run(address, tls_ca_file=str(certificate), token_file=str(token))


def is_not_on_the_operators_list(bench):
    path = bench.directory / "elsewhere.json"
    path.write_text(json.dumps(bench.job("192.0.2.1:50061")))
    result = bench.service.client("submit", path, check=False)
    assert result.returncode != 0 and "192.0.2.1:50061" in result.stderr and "`rewards.allow`" in result.stderr, result


def is_away_while_the_job_is_cancelled(bench):
    job = bench.service.submit(bench.job(bench.address()))
    bench.wait_until_waiting(job)
    start = time.monotonic()
    bench.service.client("cancel", job)
    assert bench.service.wait_end(job, 60)["state"] == "CANCELLED"
    assert time.monotonic() - start < 10, "a job that waits is cancelled slowly"


def function_of(line):
    """`is_too_slow` for "is too slow: no answer …"."""
    words = re.match(r"\| ([^|:]*)", line).group(1).replace("'", "").strip().lower()
    return "_".join(words.split())


def main():
    names = [function_of(line) for line in TABLE.splitlines()[1:]]
    missing = [name for name in names if name not in globals()]
    assert not missing, f"lines of docs/rewards.md without a test: {missing}"
    chosen = sys.argv[1:] or [*names, "works_over_tls"]
    with harness.workspace() as directory, rewards_harness.installed() as package, harness.Service(directory, 3) as service:
        bench = Bench(directory, service, package)
        address = bench.address()
        with bench.reward(address):
            ended = service.run(bench.job(address))
        bench.reference = harness.outcome(ended)
        assert '"mean.labelled"' in bench.reference["metrics"], bench.reference["metrics"]
        for name in chosen:
            start = time.monotonic()
            globals()[name](bench)
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    print("ok")


main()
