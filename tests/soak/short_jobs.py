"""Many short jobs in one service: memory, threads and open files of every rank stay as they are.

usage: short_jobs.py [JOBS]
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness  # noqa: E402

JOBS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
BATCH = 10
TOPOLOGIES = [{"rollout": 1, "trainer": 1}, {"colocated": 1}, {"colocated": 3}]


def usage(service):
    """By rank: resident MiB, threads, open files."""
    found = {}
    for rank, pid in service.pids().items():
        process = pathlib.Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        found[rank] = (int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(list((process / "fd").iterdir())))
    return found


def show(what, of_ranks):
    print(f"{what}: " + "; ".join(f"rank {rank} {mib:.0f} MiB, {threads} threads, {files} files"
                                  for rank, (mib, threads, files) in sorted(of_ranks.items())), flush=True)


with harness.workspace() as directory, harness.Service(directory, 4) as service:
    def run(count):
        jobs = [service.submit(harness.job(directory, num_epochs=1, eval={"max_images": 4}, device={"device_batch_size": 2},
                                           topology=TOPOLOGIES[i % len(TOPOLOGIES)])) for i in range(count)]
        for job_id in jobs:
            assert service.wait_end(job_id)["state"] == "SUCCEEDED", job_id

    run(BATCH)  # Loads what is loaded once and kept.
    before = usage(service)
    show(f"after {BATCH} jobs", before)
    for done in range(BATCH, JOBS, BATCH):
        run(min(BATCH, JOBS - done))
        if done % (BATCH * 5) == 0:
            show(f"after {done + BATCH} jobs", usage(service))
    after = usage(service)
    show(f"after {JOBS} jobs", after)
    assert sorted(before) == sorted(after) == [0, 1, 2, 3], (before, after)
    for rank, (mib, threads, files) in before.items():
        mib_after, threads_after, files_after = after[rank]
        # A tenth of a MiB a job would be 20 in 200; allocators wander by some.
        assert mib_after <= mib + max(16, 0.1 * mib), f"rank {rank} grew from {mib:.0f} to {mib_after:.0f} MiB"
        assert threads_after <= threads + 1, f"rank {rank}: {threads} threads became {threads_after}"
        assert files_after <= files + 1, f"rank {rank}: {files} open files became {files_after}"
print("ok")
