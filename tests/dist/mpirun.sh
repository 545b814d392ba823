#!/usr/bin/env bash
# mpirun.sh -n RANKS PROGRAM [ARGS...]: starts ranks on this host as deploy/imageddpod-run does, in
# folders of their own; a launch that hangs is ended after a minute.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/mpi.sh"
find_mpirun "${IMAGEDDPO_MPIRUN:-}"
describe_mpirun
set_mpirun_flags 1 1
run_dir=$(mktemp -d "${TMPDIR:-/tmp}/imageddpo-test.XXXXXX")
private_mpi_folders "$run_dir" "$2"
trap 'rm -rf "$run_dir" ${mpi_shm_dir:+"$mpi_shm_dir"}' EXIT
timeout --kill-after=5 60 "$mpirun" "${mpirun_flags[@]}" "$@" </dev/null
