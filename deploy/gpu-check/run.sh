#!/usr/bin/env bash
# One command for a machine with a GPU: parity, whole jobs, NCCL, speed; a table, and gpu-check.json. Without a GPU, or
# with --dry-run, what can run without one, at a tiny size. See README.md; --help lists the options.
#
# PYTHON: the Python that has torch (default: python3). Its libraries are the ones that programs use.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
[[ -f $here/run.py ]] || here="$here/deploy/gpu-check" # At the top of the bundle.
exec "${PYTHON:-python3}" -B "$here/run.py" "$@"
