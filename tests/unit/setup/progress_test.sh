#!/usr/bin/env bash
# deploy/progress.sh: a word now and then, the command's own output and exit status, and nobody left speaking
# after the end, however it comes.
set -euo pipefail
cd "${IMAGEDDPO_SOURCE_DIR:-$(dirname "${BASH_SOURCE[0]}")/../../..}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export PROGRESS_SECONDS=0.2

fail() {
  echo "FAILED: $*" >&2
  cat "$work/output" >&2
  exit 1
}

code=0
deploy/progress.sh waiting bash -c 'echo begins; sleep 1; echo ends; exit 7' >"$work/output" || code=$?
[[ $code == 7 ]] || fail "exit status $code instead of the command's"
grep -qx begins "$work/output" && grep -qx ends "$work/output" || fail "the command's output"
(($(grep -c '^still waiting ([0-9]* s)$' "$work/output") >= 2)) || fail "no word in a second"

PROGRESS_SECONDS=20 deploy/progress.sh waiting true >"$work/output"
[[ ! -s $work/output ]] || fail "a word about what took no time"

# Ends with whoever called it; what it ran may be left.
for signal in TERM KILL; do
  deploy/progress.sh waiting sleep 8 >"$work/output" &
  pid=$!
  for ((tries = 0; tries < 60 && $(wc -l <"$work/output") == 0; ++tries)); do sleep 0.1; done
  kill -"$signal" "$pid"
  wait "$pid" 2>/dev/null || true
  sleep 0.3
  words=$(wc -l <"$work/output")
  ((words > 0)) || fail "no word before SIG$signal"
  sleep 0.7
  [[ $(wc -l <"$work/output") == "$words" ]] || fail "it goes on speaking after SIG$signal"
done
echo "progress_test: passed"
