"""A rank that cannot start, here because its own cluster.yaml is broken, tells rank 0 over MPI: the service ends at once with
that reason and exit code, instead of waiting for the rank or starting again and again, and nothing is left running.
"""
import subprocess
import time

import harness

REFUSING_RANK = 2
# The other ranks read the file that the launcher was given.
PROGRAM = """#!/bin/sh
for word; do
  shift
  case $OMPI_COMM_WORLD_RANK,$word in {rank},*/cluster.yaml) word={broken} ;; esac
  set -- "$@" "$word"
done
exec {program} "$@"
"""

with harness.workspace() as directory:
    service = harness.Service(directory, 4)
    broken = directory / "broken.yaml"
    broken.write_text("pool: {min_rank: 1}\n")
    program = directory / "program.sh"
    program.write_text(PROGRAM.format(rank=REFUSING_RANK, broken=broken, program=harness.BIN / "imageddpod"))
    program.chmod(0o755)
    started = time.monotonic()
    ended = subprocess.run([harness.ROOT / "deploy/imageddpod-run", "-n", "4", "--config", service.config, "--program", program],
                           capture_output=True, text=True, timeout=120, check=False)
    output = ended.stdout + ended.stderr
    assert ended.returncode not in (0, 75), (ended.returncode, output)
    for words in (f"rank {REFUSING_RANK} on ", "cannot start: ", "unknown setting `pool.min_rank`", "did you mean `min_ranks`"):
        assert words in output, f"no '{words}' in:\n{output}"
    assert output.count("cannot start: ") <= 5, f"it was tried again:\n{output}"
    assert not service.pids(), service.pids()
    print(f"the service ended with {ended.returncode} after {time.monotonic() - started:.1f} s")
print("ok")
