#!/usr/bin/env bash
# stream.sh PROGRAM OUTPUT.json: runs stream_bench on two processes, started as the service's ranks are.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../deploy/mpi.sh"
find_mpirun "${IMAGEDDPO_MPIRUN:-}"
describe_mpirun
set_mpirun_flags 1 1
run_dir=$(mktemp -d "${TMPDIR:-/tmp}/imageddpo-bench.XXXXXX")
private_mpi_folders "$run_dir" 2
trap 'rm -rf "$run_dir" ${mpi_shm_dir:+"$mpi_shm_dir"}' EXIT
python3 "$here/sd15_unet.py" "$run_dir/unet"
mkdir -p "$(dirname "$2")"
timeout --kill-after=5 900 "$mpirun" "${mpirun_flags[@]}" -n 2 "$1" "$2" "$run_dir/unet" </dev/null
