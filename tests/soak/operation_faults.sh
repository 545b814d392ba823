#!/usr/bin/env bash
# operation_faults.sh ROUNDS: rounds in which ranks are killed or stopped in the middle of every kind of
# operation; see tests/dist/operation_faults.sh. Part of make soak.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${BUILD:-build}
cmake --build "$build" --target operation_fault_ranks
tests/dist/operation_faults.sh "$build/tests/operation_fault_ranks" "$1"
