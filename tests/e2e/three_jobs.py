"""Three jobs at once under one launcher. A worker of one is killed: that one goes on with a spare, and the
other two do not notice, neither in their bits nor in the times of their epochs."""
import json
import pathlib
import statistics

import harness

SEEDS = (5, 6, 7)


def run(service, directory, kill):
    jobs = [service.submit(harness.job(directory, seed=seed, num_epochs=8, topology={"rollout": 1, "trainer": 1}))
            for seed in SEEDS]
    if kill:
        service.wait(jobs[1], lambda j: j["progress"]["epoch"] >= 3, 240, "epoch 3 of the second job")
        running = [service.get(job_id)["state"] for job_id in jobs]
        assert running == ["RUNNING"] * 3, running
        service.kill(service.ranks_of(jobs[1])[0])
    ended = [service.wait_end(job_id) for job_id in jobs]
    assert [job["state"] for job in ended] == ["SUCCEEDED"] * 3, ended
    resumed = [job["resume_count"] for job in ended]
    assert resumed == [0, 1 if kill else 0, 0], resumed
    return ended


def longest_gap(job):
    """The longest of its epochs' wall times over their median."""
    rows = (pathlib.Path(job["output_dir"]) / "timings.jsonl").read_text().splitlines()
    seconds = [json.loads(row)["epoch_seconds"] for row in rows]
    return max(seconds) / statistics.median(seconds), max(seconds)


with harness.workspace() as directory, harness.Service(directory, 9) as service:
    undisturbed = run(service, directory, kill=False)
    disturbed = run(service, directory, kill=True)
    for before, after, seed in zip(undisturbed, disturbed, SEEDS):
        harness.assert_same(harness.outcome(before), harness.outcome(after), f"seed {seed}")
    for which in (0, 2):
        quiet, noisy = longest_gap(undisturbed[which]), longest_gap(disturbed[which])
        print(f"seed {SEEDS[which]}: longest epoch {noisy[1]:.2f} s, {noisy[0]:.2f} of the median; "
              f"undisturbed {quiet[1]:.2f} s, {quiet[0]:.2f}", flush=True)
        # The other job loads its model again meanwhile, on the same cores.
        assert noisy[1] < 2 * quiet[1] + 1, "a gap in the epoch times of a job that lost nothing"
print("ok")
