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
# 100 in a full run; in CI two that are always the same.
if ((rounds > 1)); then schedules=$((rounds * 5)); else schedules="2 1"; fi
# shellcheck disable=SC2086 # Their number, and a seed.
loop random_faults python3 tests/soak/random_faults.py $schedules
loop short_jobs python3 tests/soak/short_jobs.py $((rounds * 10))
# 1,000 jobs, 50 clients, 200 watchers, 10,000 jobs that have ended: in a full run alone.
load() {
  cmake --build "${BUILD:-build}" --target service_controller unit_controller_jobs &&
    IMAGEDDPO_LOAD=full "${BUILD:-build}/tests/service_controller" --gtest_filter='LoadTest.*' &&
    IMAGEDDPO_LOAD=full "${BUILD:-build}/tests/unit_controller_jobs" --gtest_filter='*ATickOverManyJobs*'
}
if ((rounds >= 20)); then loop load load; fi
(
  IFS=,
  echo "{\"loops\": [${results[*]}]}"
) >out/soak.json
cat out/soak.json
exit "$failed"
