"""Idle ranks take no CPU time: a service of 3 processes, just started and after a job."""
import os
import pathlib
import time

import harness

SECONDS, LIMIT = 12, 0.06  # Of a core, for all processes together.


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(service, what):
    """The imageddpod processes, mpirun and the launcher."""
    ranks = list(service.pids().values())
    assert len(ranks) == 3, ranks
    parents = {int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in ranks}
    pids = [*ranks, *parents, service.launcher.pid]
    before, start = cpu_seconds(pids), time.monotonic()
    time.sleep(SECONDS)
    share = (cpu_seconds(pids) - before) / (time.monotonic() - start)
    print(f"{what}: {100 * share:.1f}% of a core")
    assert share < LIMIT, f"{what}: {100 * share:.1f}% of a core, allowed {100 * LIMIT:.0f}%"


with harness.workspace() as directory:
    with harness.Service(directory, 3) as service:
        time.sleep(3)
        measure(service, "a fresh service")
        service.run(harness.job(directory, num_epochs=1))
        time.sleep(1)
        measure(service, "after a job")
