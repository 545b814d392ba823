"""Random schedules of faults over three random jobs on seven ranks: ranks are killed and stopped, the whole service starts
again, the disk is full, checkpoints are damaged, a reward service is away, jobs are paused, cancelled and preempted. Every job
goes on, as its policies say, and ends with the LoRA and metrics of an undisturbed run, bit for bit; whatever the service has
acknowledged holds.

usage: random_faults.py [SCHEDULES [SEED]]
       random_faults.py --shorten SEED
       random_faults.py --only SEED NUMBER,NUMBER,...

Jobs and schedule follow from the seed alone; what else a fault meets depends on time, too. The seeds are SEED, SEED + 1, ...
The second form tries a schedule that fails again with fewer and fewer faults, which can take hours; the third runs what is left.
"""
import collections
import contextlib
import json
import pathlib
import random
import re
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "service/rewards"))
import rewards_harness  # noqa: E402
from rewards_harness import harness  # noqa: E402

RANKS = 7
JOBS = 3
EPOCHS = 14
SILENCE_S = 3
TOPOLOGIES = ["auto", {"rollout": 1, "trainer": 1}, {"rollout": 2, "trainer": 1, "min_rollout": 1}, {"colocated": 2, "min_colocated": 1}]
UNREACHABLE = 4  # The client's exit code.


def settings_of(directory):
    """The kinds of jobs."""
    served = {"type": "service", "endpoints": [f"unix:{directory}/reward.sock"], "name": "mean", "weight": 10, "timeout_seconds": 30}
    changes = {
        "plain": {},
        "ahead": {"sample": {"max_staleness": 1}},
        "inner epochs": {"train": {"num_inner_epochs": 2}},
        "average": {"train": {"ema_decay": 0.9}, "sample": {"max_staleness": 2}},
        "statistics": {"advantage": {"mode": "per_key", "min_count": 2}},
        "served": {"rewards": [served]},
    }
    return {name: harness.job(directory, name=name.replace(" ", "-"), seed=20 + i, num_epochs=EPOCHS, checkpoint={"every_epochs": 1},
                              eval={"max_images": 4, "every_epochs": 5}, device={"device_batch_size": 2}, **change)
            for i, (name, change) in enumerate(changes.items())}


class RewardService:
    """The process that a kind of jobs asks for its rewards; it may be killed and started again."""

    def __init__(self, directory, package):
        self.directory, self.package = directory, package
        self.process = None

    def __enter__(self):
        log = self.directory / f"reward-{time.monotonic_ns()}.log"
        self.process = rewards_harness.Process(self.package, rewards_harness.HERE / "reward_process.py",
                                               f"unix:{self.directory}/reward.sock", log=log).__enter__()
        return self

    def __exit__(self, *_):
        self.process.__exit__()


class Run:
    """A service with its jobs, and what can happen to them. Each fault says what it did, or None where nothing was there to hit."""

    def __init__(self, service, reward, has_small_disk):
        self.service, self.reward, self.has_small_disk = service, reward, has_small_disk
        self.jobs = {}  # Kind by id.
        self.urgent = []  # Ids of jobs that others were preempted for.
        self.stopped = []  # Processes.

    def ask(self, *arguments):
        """The client's answer, from a service that may be starting again."""
        answers = []

        def answered():
            answers.append(self.service.client(*arguments, check=False))
            return answers[-1].returncode != UNREACHABLE

        harness.wait_for(answered, 120, f"the service to answer {arguments}")
        return answers[-1]

    def kill_rank_0(self):
        with contextlib.suppress(OSError, KeyError):  # It is starting again just now.
            self.service.kill(0)

    def hit_worker(self, dice, number):
        pids = {rank: pid for rank, pid in self.service.pids().items() if rank != 0 and harness.state_of(pid) not in ("T", "Z", None)}
        if not pids:
            return None
        rank = dice.choice(sorted(pids))
        with contextlib.suppress(OSError, KeyError):
            self.service.kill(rank, number)
            return rank, pids[rank]
        return None

    def kill(self, dice):
        hit = self.hit_worker(dice, signal.SIGKILL)
        return hit and f"rank {hit[0]}"

    def stop(self, dice):
        hit = self.hit_worker(dice, signal.SIGSTOP)
        if hit:
            self.stopped.append(hit[1])
        return hit and f"rank {hit[0]}"

    def restart(self, dice):
        del dice
        self.kill_rank_0()
        return "rank 0"

    def hold(self, dice, verb, flags, state):
        """Has a job held; what was acknowledged holds even if the service dies at once. Then it goes on."""
        job_id = dice.choice(sorted(self.jobs))
        if self.ask(verb, job_id, *flags).returncode != 0:  # It has ended.
            assert self.service.wait(job_id, lambda _: True, 60, "a job")["state"] in harness.ENDED, job_id
            return None
        dies = dice.random() < 0.3
        if dies:
            self.kill_rank_0()
        held = self.service.wait(job_id, lambda j: j["state"] in (state, *harness.ENDED), 240, f"{job_id} to be {state}")
        assert held["state"] in (state, "SUCCEEDED"), (held["state"], held["state_reason"])
        time.sleep(2 * dice.random())
        if held["state"] == state:
            assert self.service.wait(job_id, lambda _: True, 60, "a job")["state"] == state, f"{job_id} goes on by itself"
            resumed = self.ask("resume", job_id)
            assert resumed.returncode == 0, resumed
        return f"{job_id}{', and rank 0' if dies else ''}"

    def pause(self, dice):
        return self.hold(dice, "pause", dice.choice([[], ["--now"]]), "PAUSED")

    def cancel(self, dice):
        return self.hold(dice, "cancel", [], "CANCELLED")

    def preempt(self, dice):
        path = self.service.directory / f"urgent-{time.monotonic_ns()}.yaml"
        path.write_text(json.dumps(harness.job(self.service.directory, num_epochs=1, device={"device_batch_size": 2},
                                               topology={"colocated": dice.choice([2, 4]), "min_colocated": 1})))
        accepted = self.ask("submit", path, "--priority", "10", "--request-id", path.name)
        assert accepted.returncode == 0, accepted
        self.urgent.append(re.search(r"job-\d+", accepted.stdout).group())
        return self.urgent[-1]

    def disk(self, dice):
        if not self.has_small_disk:
            return None
        filler = self.service.data_dir / "filler"
        harness.fill(filler)
        hit = self.kill(dice) if dice.random() < 0.5 else None
        time.sleep(1 + 5 * dice.random())
        filler.unlink()
        return f"full{', and ' + hit if hit else ''}"

    def damage(self, dice):
        """A byte of a job's newest checkpoint is another one, and the service has to read it."""
        running = [job for job in map(self.service.get, sorted(self.jobs))
                   if job and job["state"] == "RUNNING" and 2 <= job["progress"]["epoch"] <= EPOCHS - 4]
        if not running:
            return None
        job = dice.choice(running)
        try:
            folder = sorted((pathlib.Path(job["output_dir"]) / "checkpoints").glob("epoch-*"))[-1]
            file = dice.choice(sorted(folder.iterdir()))
            with open(file, "r+b", buffering=0) as content:
                content.seek(dice.randrange(file.stat().st_size))
                byte = content.read(1)
                content.seek(-1, 1)
                content.write(bytes([byte[0] ^ 0x40]))
        except (OSError, IndexError):  # It was removed just now.
            return None
        self.kill_rank_0()
        return f"{job['id']}, {folder.name}/{file.name}"

    def rewards(self, dice):
        self.reward.__exit__()
        time.sleep(1 + 4 * dice.random())
        self.reward.__enter__()
        return "were away"


FAULTS = {"kill": Run.kill, "stop": Run.stop, "restart": Run.restart, "pause": Run.pause, "cancel": Run.cancel, "preempt": Run.preempt,
          "disk": Run.disk, "damage": Run.damage, "rewards": Run.rewards}


def schedule_of(seed, kinds):
    """Its jobs, and its faults: (seconds to wait before it, name, seed of its choices)."""
    dice = random.Random(seed)
    jobs = [(dice.choice(sorted(kinds)), dice.choice(TOPOLOGIES)) for _ in range(JOBS)]
    faults = []
    for _ in range(dice.randint(4, 8)):
        faults.append((round(dice.uniform(0.2, 4), 2), dice.choice(sorted(FAULTS)), dice.randrange(2**32)))
    return jobs, faults


class Soak:
    def __init__(self, directory, reward, has_small_disk):
        self.directory, self.reward, self.has_small_disk = directory, reward, has_small_disk
        self.kinds = settings_of(directory)
        self.undisturbed = {}  # Outcomes by kind.
        self.hits = collections.Counter()

    def run_undisturbed(self):
        with harness.Service(self.directory, RANKS, b"undisturbed") as service:
            jobs = {kind: service.submit({**settings, "topology": {"rollout": 1, "trainer": 1}}) for kind, settings in self.kinds.items()}
            for kind, job_id in jobs.items():
                ended = service.wait_end(job_id, 600)
                assert ended["state"] == "SUCCEEDED" and ended["resume_count"] == 0, ended
                self.undisturbed[kind] = harness.outcome(ended)

    def run(self, seed, numbers=None):
        """A schedule, or of its faults those with these numbers. Raises AssertionError."""
        jobs, faults = schedule_of(seed, self.kinds)
        print(f"seed {seed}: {', '.join(f'{kind} on {topology}' for kind, topology in jobs)}", flush=True)
        name = f"schedule-{time.monotonic_ns()}"
        (self.directory / "service.log").unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory / name, ignore_errors=True)
            if self.has_small_disk:
                stack.enter_context(harness.small_disk(self.directory / name))
            service = harness.Service(self.directory, RANKS, name.encode(), heartbeat_timeout_seconds=SILENCE_S, max_restarts=50)
            config = json.loads(service.config.read_text())
            service.config.write_text(json.dumps({**config, "queue": {"preemption": "lower_priority"}}))
            service.launcher_options = ["--max-restarts", "100",  # As many as may follow soon upon each other.
                                        "--start-timeout", "30"]  # A rank may be stopped while it starts.
            run = Run(stack.enter_context(service), self.reward, self.has_small_disk)
            for kind, topology in jobs:
                run.jobs[service.submit({**self.kinds[kind], "topology": topology})] = kind
            for number, (wait_s, fault, choices) in enumerate(faults):
                if numbers is not None and number not in numbers:
                    continue
                time.sleep(wait_s)
                hit = FAULTS[fault](run, random.Random(choices))
                print(f"  {number} {fault}: {hit or 'nothing was there to hit'}", flush=True)
                self.hits[fault] += bool(hit)
            self.check_end(run)

    def check_end(self, run):
        for job_id in [*run.jobs, *run.urgent]:
            ended = run.service.wait_end(job_id, 600)
            assert ended["state"] == "SUCCEEDED", f"{job_id} {ended['state']}: {ended['state_reason']}\n{run.service.log.read_text()[-6000:]}"
            if job_id in run.jobs:
                kind = run.jobs[job_id]
                harness.assert_same(self.undisturbed[kind], harness.outcome(ended), f"{job_id}, {kind}, resumed {ended['resume_count']} times")
        harness.wait_for(lambda: not any(harness.state_of(pid) == "T" for pid in run.stopped), 30, "the stopped processes to be killed")

    def shorten(self, seed):
        """Leaves out whatever the schedule fails without. Returns the numbers that are left."""
        left = list(range(len(schedule_of(seed, self.kinds)[1])))
        for number in list(left):
            shorter = [other for other in left if other != number]
            try:
                self.run(seed, shorter)
            except AssertionError:
                left = shorter
        return left


def main(arguments):
    only, shortens = arguments[:1] == ["--only"], arguments[:1] == ["--shorten"]
    if only or shortens:
        seeds, numbers = [int(arguments[1])], [int(number) for number in arguments[2].split(",")] if only else None
    else:
        first = int(arguments[1]) if len(arguments) > 1 else random.randrange(10**6)
        seeds, numbers = range(first, first + (int(arguments[0]) if arguments else 10)), None
    refusal = harness.own_mounts()
    if refusal:
        print(f"the disk is never full, since {refusal}", flush=True)
    with harness.workspace() as directory, rewards_harness.installed() as package, RewardService(directory, package) as reward:
        soak = Soak(directory, reward, has_small_disk=refusal is None)
        soak.run_undisturbed()
        for seed in seeds:
            try:
                soak.run(seed, numbers)
            except AssertionError as error:
                print(f"seed {seed} FAILED: {error}", flush=True)
                if shortens:
                    print(f"tests/soak/random_faults.py --only {seed} {','.join(map(str, soak.shorten(seed)))}", flush=True)
                elif not only:
                    print(f"tests/soak/random_faults.py --shorten {seed} finds out which of its faults matter", flush=True)
                raise
    print(f"{len(seeds)} schedules: {', '.join(f'{count} {fault}' for fault, count in sorted(soak.hits.items()))}")
    assert len(seeds) < 10 or sum(count > 0 for count in soak.hits.values()) >= 5, soak.hits
    print("ok")


main(sys.argv[1:])
