"""What the machine was doing while something was measured."""
import os
import pathlib
import platform
import resource
import time


def busy_seconds():
    """Busy seconds of all cores since the machine started, of all processes."""
    words = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in words)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """Processor seconds of this process and its children that have ended."""
    return sum(used.ru_utime + used.ru_stime
               for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


class Watch:
    """Cores that others kept busy while the `with` block ran; its own processes must have ended with it."""

    def __enter__(self):
        self._start = time.monotonic(), busy_seconds(), own_seconds()
        return self

    def __exit__(self, *_):
        wall, busy, own = (now - then for now, then in zip((time.monotonic(), busy_seconds(), own_seconds()), self._start))
        self.wall_seconds = wall
        self.others_cores = max(0.0, (busy - own) / wall)


def describe():
    cpu = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
           if line.startswith("model name")]
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name}" in flags]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{len(os.sched_getaffinity(0))} cores ({cpu[0] if cpu else platform.machine()}; {', '.join(units)}), {memory / 1e9:.0f} GB"


def peak_memory_bytes(pid):
    """The most that a process has had in memory, mapped files included."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
