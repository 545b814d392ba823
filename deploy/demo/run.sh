#!/usr/bin/env bash
# make demo: starts the service with 3 processes, submits deploy/demo/job.yaml, watches it, and shows
# what came of it. SEED=n sets the job's seed; arguments go to `imageddpo submit`, for instance
# --set sample.max_staleness=1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/progress.sh
. deploy/progress.sh
bin=${BIN:-build/bin}
out=out/demo
seed=${SEED:-1}
service_log=$out/service.log

say() { echo "demo: $*"; }
fail() {
  say "$*" >&2
  exit 1
}
[[ $seed =~ ^[0-9]+$ ]] || fail "SEED=$seed is not a number"
programs=(imageddpod imageddpo imageddpo-demo)
for program in "${programs[@]}"; do
  [[ -x $bin/$program ]] || fail "$bin/$program is missing; run make build"
done

# Says what is still there of the run before, whose log is older than what was made since.
say_what_is_used_again() {
  local used=() program
  [[ third_party/.stamps -nt $service_log || third_party/apt.log -nt $service_log ]] || used+=("packages and wheels")
  for program in "${programs[@]}"; do
    if [[ $bin/$program -nt $service_log ]]; then break; fi
  done
  [[ $bin/$program -nt $service_log ]] || used+=("programs in $bin")
  if [[ -d $out/data ]]; then used+=("images in $out/data"); fi
  if ((${#used[@]})); then
    say "used again: $(printf '%s, ' "${used[@]}" | sed 's/, $//')"
  fi
  say "made anew: the service, the training, and the result in $out"
}

launcher=
watcher=
stop_service() {
  if [[ -n $watcher ]]; then
    # Not in order: it would say that the job goes on.
    disown "$watcher"
    kill -KILL "$watcher" 2>/dev/null || true
    watcher=
  fi
  [[ -n $launcher ]] || return 0
  kill -TERM "$launcher" 2>/dev/null || true
  with_word "stopping the service" wait "$launcher" 2>/dev/null || true
  launcher=
}
interrupted() {
  trap '' INT TERM HUP
  if [[ -t 1 ]]; then echo; fi
  say "interrupted${launcher:+; stopping the service}"
  exit "$1"
}
trap stop_service EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP

wait_for_service() {
  local deadline=$((SECONDS + 60))
  until [[ -s $out/service/service.json ]]; do
    if ! kill -0 "$launcher" 2>/dev/null; then
      tail -n 5 "$service_log" >&2
      fail "the service did not start; its log is $service_log"
    fi
    ((SECONDS < deadline)) || fail "the service did not start within 60 s; its log is $service_log"
    sleep 0.2
  done
}

mkdir -p "$out"
if [[ -e $service_log ]]; then say_what_is_used_again; fi
say "step 1 of 4: images, blurred and clean"
rm -rf "$out"/data/.*.tmp-* # Of a call that was interrupted.
with_word "making images" "$bin/imageddpo-demo" data --output "$out/data"

say "step 2 of 4: the service, 3 processes (log: $service_log)"
# Every run of the demo starts with an empty job store; the results of the run before go with it.
rm -rf "$out"/{service,job.json,summary.json,before-after.png}
# Ends with this script, even where that is killed.
setpriv --pdeathsig TERM deploy/imageddpod-run -n 3 --config deploy/demo/cluster.yaml --program "$bin/imageddpod" \
  >"$service_log" 2>&1 &
launcher=$!
with_word "starting the service" wait_for_service

say "step 3 of 4: training a model of 0.8 million parameters, 3 to 5 minutes on 2 cores"
client=("$bin/imageddpo" --service-file "$out/service/service.json")
# Behind a wait, which a signal to this script ends at once; Ctrl-C reaches this script alone.
setsid setpriv --pdeathsig TERM "${client[@]}" submit deploy/demo/job.yaml --set "seed=$seed" "$@" --watch &
watcher=$!
wait "$watcher" || fail "the job did not succeed; the service's log is $service_log"
watcher=
job=$("${client[@]}" list -o json | grep -o 'job-[0-9]*' | head -1)
"${client[@]}" get "$job" -o json >"$out/job.json"
stop_service

say "step 4 of 4: what a classifier sees in the held-out images, before and after"
with_word "comparing" "$bin/imageddpo-demo" report --job "$out/job.json" --clean "$out/data/held-out-clean" \
  --classifier deploy/demo/classifier.pt --output "$out"
cat <<EOT

  What next
    look at the picture               $out/before-after.png
    the same with other noise         make demo SEED=$((10#$seed + 1))   (replaces this result)
    your own model and images         README.md, "A job of your own, in five commands"

EOT
