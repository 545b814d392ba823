#!/usr/bin/env bash
# operation_faults.sh PROGRAM ROUNDS: real ranks under mpirun, one after the other killed or stopped in
# the middle of an operation, of every kind; in the next round the other way. Every survivor has to end
# with an error of the right kind within the deadline, every time. PROGRAM: operation_fault_ranks.
set -euo pipefail
program=$1
rounds=$2
ranks=8
operations=6 # Each loses one rank.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/imageddpo-operation-faults.XXXXXX")
trap 'rm -rf "$folder"' EXIT

expected=0
for ((i = 1; i <= operations; ++i)); do
  ((expected += ranks - i))
done

failed=0
for ((round = 1; round <= rounds; ++round)); do
  mkdir "$folder/$round"
  # mpirun's own exit code says only that ranks were killed.
  "$here/mpirun.sh" -n "$ranks" "$program" "$round" "$folder/$round" >"$folder/$round/log" 2>&1 || true
  good=$(cat "$folder/$round"/rank-* 2>/dev/null | grep -c '^ok ' || true)
  if [[ $good != "$expected" ]] || grep -q '^wrong ' "$folder/$round"/rank-*; then
    failed=$((failed + 1))
    echo "round $round: $good of $expected operations of survivors ended as they have to:"
    grep -H '' "$folder/$round"/rank-* || true
    tail -n 5 "$folder/$round/log"
  fi
done
echo "$rounds rounds, $failed failed"
[[ $failed == 0 ]]
