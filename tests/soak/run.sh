#!/usr/bin/env bash
# make soak: the long loops, SOAK_ROUNDS rounds of each (default 20); writes out/soak.json.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rounds=${SOAK_ROUNDS:-20}
export IMAGEDDPO_BIN_DIR=$PWD/${BUILD:-build}/bin
mkdir -p out
results=()
failed=0
loop() {
  local name=$1 started=$SECONDS passed=true
  shift
  if ! "$@"; then
    passed=false
    failed=1
  fi
  results+=("{\"loop\": \"$name\", \"rounds\": $rounds, \"passed\": $passed, \"seconds\": $((SECONDS - started))}")
}
loop kills python3 tests/e2e/kills.py "$rounds"
loop operation_faults tests/soak/operation_faults.sh $((rounds * 5 / 2))
loop random_kills python3 tests/e2e/random_kills.py $((rounds * 5))
loop short_jobs python3 tests/soak/short_jobs.py $((rounds * 10))
(
  IFS=,
  echo "{\"loops\": [${results[*]}]}"
) >out/soak.json
cat out/soak.json
exit "$failed"
