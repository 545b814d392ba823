#!/usr/bin/env bash
# make fuzz: libFuzzer on every target of tests/fuzz, FUZZ_SECONDS each (default 600), as many at once as there are
# processors; FUZZ_TARGETS="image npy" chooses some. What it has found out about a format stays in out/fuzz/TARGET/corpus
# for the next run; an input that ends a target lies beside it. Writes out/fuzz.json. Ends with 1 after a finding, with 2
# where clang or libFuzzer is missing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${FUZZ_SECONDS:-600}
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
  clang++ -fsanitize=fuzzer -x c++ -o /dev/null - 2>/dev/null; then
  echo "make fuzz needs clang with libFuzzer: apt-get install clang libclang-rt-dev" >&2
  exit 2
fi
cmake --preset fuzz --log-level=NOTICE &&
  deploy/progress.sh building cmake --build build-fuzz -j "$(deploy/build-jobs.sh)" --target fuzzers || exit 1

# A finding of one of the sanitizers ends the target, so that libFuzzer keeps its input.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0

fuzz() {
  local target=$1 folder=out/fuzz/$1
  mkdir -p "$folder/corpus"
  echo "{\"target\": \"$target\", \"seconds\": $seconds, \"inputs\": 0, \"passed\": false}" >"$folder/result.json"
  FUZZ_WRITE_SEEDS=$folder/corpus "build-fuzz/tests/fuzz_$target" || return
  while read -r seed; do
    [[ -z $seed ]] || cp -r "$seed" "$folder/corpus/"
  done <"build-fuzz/fuzz/$target.seeds"
  "build-fuzz/tests/fuzz_$target" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -max_len=65536 \
    -artifact_prefix="$folder/" -print_final_stats=1 "$folder/corpus" >"$folder/log" 2>&1
  local code=$?
  local inputs
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
  echo "{\"target\": \"$target\", \"seconds\": $seconds, \"inputs\": ${inputs:-0}, \"passed\": $([[ $code == 0 ]] && echo true || echo false)}" \
    >"$folder/result.json"
  if [[ $code == 0 ]]; then
    echo "$target: ${inputs:-0} inputs, no finding"
  else
    echo "$target: FINDING"
    tail -n 40 "$folder/log"
  fi
  return "$code"
}
export -f fuzz
export seconds

targets=${FUZZ_TARGETS:-$(for list in build-fuzz/fuzz/*.seeds; do basename "$list" .seeds; done)}
failed=0
echo "$targets" | xargs -n 1 -P "$(nproc)" bash -c 'fuzz "$1"' fuzz || failed=1
results=()
for target in $targets; do results+=("$(cat "out/fuzz/$target/result.json")"); done
(
  IFS=,
  echo "{\"targets\": [${results[*]}]}"
) >out/fuzz.json
exit "$failed"
