#!/usr/bin/env bash
# make demo: starts the service with 3 processes, submits deploy/demo/job.yaml, watches it, and shows
# what came of it. SEED=n sets the job's seed; arguments go to `imageddpo submit`, for instance
# --set sample.max_staleness=1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=${BIN:-build/bin}
out=out/demo
seed=${SEED:-1}
service_log=$out/service.log

fail() {
  echo "demo: $*" >&2
  exit 1
}
[[ $seed =~ ^[0-9]+$ ]] || fail "SEED=$seed is not a number"
for program in imageddpod imageddpo imageddpo-demo-data imageddpo-demo-report; do
  [[ -x $bin/$program ]] || fail "$bin/$program is missing; run make build"
done

say() { echo "demo: $*"; }

mkdir -p "$out"
if [[ -d $out/data ]]; then
  say "the programs in $bin and the images in $out/data are there; what is complete is reused"
else
  say "making the images, $out/data"
fi
"$bin/imageddpo-demo-data" --output "$out/data"
# Every run of the demo starts with an empty job store; results of earlier runs go with it.
rm -rf "$out/service"
say "starting the service with 3 processes (log: $service_log)"
deploy/imageddpod-run -n 3 --config deploy/demo/cluster.yaml --program "$bin/imageddpod" \
  >"$service_log" 2>&1 &
launcher=$!
watcher=
stop_service() {
  if [[ -n $watcher ]]; then kill -TERM "$watcher" 2>/dev/null || true; fi
  kill -TERM "$launcher" 2>/dev/null || true
  wait "$launcher" 2>/dev/null || true
}
trap stop_service EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for _ in $(seq 300); do
  [[ -s $out/service/service.json ]] && break
  kill -0 "$launcher" 2>/dev/null || fail "the service did not start; see $service_log"
  sleep 0.2
done
[[ -s $out/service/service.json ]] || fail "the service did not start within 60 s; see $service_log"

say "training a model of 0.8 million parameters: 3 to 5 minutes on 2 cores"
client=("$bin/imageddpo" --service-file "$out/service/service.json")
# Behind a wait, which a signal to this script ends at once.
"${client[@]}" submit deploy/demo/job.yaml --set "seed=$seed" "$@" --watch &
watcher=$!
wait "$watcher"
watcher=
job=$("${client[@]}" list -o json | grep -o 'job-[0-9]*' | head -1)
"${client[@]}" get "$job" -o json >"$out/job.json"
say "comparing the held-out images before and after"
"$bin/imageddpo-demo-report" --job "$out/job.json" --clean "$out/data/held-out-clean" \
  --classifier deploy/demo/classifier.pt --output "$out"
cat <<EOF

  Next     make demo SEED=2                            the same with other random numbers
           README.md, "A job of your own"              your model, your images, in five commands
           $bin/imageddpo --help                 what the client can do

EOF
