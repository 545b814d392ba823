#!/usr/bin/env bash
# launcher_test.sh FAKE_DAEMON: deploy/imageddpod-run with a small service that ends in all possible ways.
set -uo pipefail
launcher=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../deploy" && pwd)/imageddpod-run
daemon=$1
[[ -x $daemon ]] || exit 2
work=$(mktemp -d "${TMPDIR:-/tmp}/launcher-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
  echo "FAILED: $test_name: $*" >&2
  sed 's/^/    /' "$folder/log" >&2
  failures=$((failures + 1))
}

# begin NAME MODE [launcher options...]: starts a service of 3 processes in the background.
begin() {
  test_name=$1
  folder=$work/$1
  mkdir "$folder"
  echo "$test_name"
  TMPDIR=$folder "$launcher" -n 3 --mpirun "${IMAGEDDPO_MPIRUN:-}" --program "$daemon" "${@:3}" -- "$2" "$folder" \
    >"$folder/log" 2>&1 &
  launcher_pid=$!
}

starts() { if [[ -f $folder/starts ]]; then wc -l <"$folder/starts"; else echo 0; fi; }

# Waits until rank 0 has started so many times and every rank has told its pid since.
await_start() {
  for _ in {1..300}; do
    if [[ $(starts) -ge $1 && -s $folder/rank-0 && -s $folder/rank-1 && -s $folder/rank-2 ]] &&
      kill -0 $(cat "$folder"/rank-*) 2>/dev/null; then
      return
    fi
    sleep 0.1
  done
  fail "start $1 did not happen"
  exit 1
}
pid_of() { cat "$folder/rank-$1"; }
forget_pids() { rm -f "$folder"/rank-*; }

# The launcher's exit code, what it has left running and what it has left in its folders.
finish() {
  local expected=$1
  for _ in {1..600}; do
    kill -0 "$launcher_pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$launcher_pid" 2>/dev/null && fail "still running after a minute"
  wait "$launcher_pid"
  local code=$?
  [[ $code == "$expected" ]] || fail "exit code $code, expected $expected"
  nothing_left
}
nothing_left() {
  local left
  left=$(grep -lz "^IMAGEDDPO_RUN_DIR=$folder/" /proc/[0-9]*/environ 2>/dev/null)
  [[ -z $left ]] || fail "still running: $left"
  left=$(find "$folder" -mindepth 1 ! -name log ! -name starts ! -name 'rank-*')
  [[ -z $left ]] || fail "left behind: $left"
  abandoned_shm && fail "left behind: $abandoned"
}
# Folders in shared memory that a launch of this test made and that belong to no process any more.
abandoned_shm() {
  abandoned=
  local lock
  for lock in $(grep -l "^$work/" /dev/shm/imageddpo-run.*/lock 2>/dev/null); do
    flock --nonblock "$lock" true 2>/dev/null && abandoned+=" ${lock%/lock}"
  done
  [[ -n $abandoned ]]
}
expect_starts() { [[ $(starts) == "$1" ]] || fail "$(starts) starts, expected $1"; }
# expect_variable NAME=VALUE: each rank has it, and NAME once.
expect_variable() {
  local rank
  for rank in 0 1 2; do
    [[ $(tr '\0' '\n' <"/proc/$(pid_of "$rank")/environ" | grep "^${1%%=*}=") == "$1" ]] || fail "rank $rank lacks $1"
  done
}
expect_log() { grep -q "$1" "$folder/log" || fail "no \"$1\" in the log"; }

begin ends_with_the_service clean
finish 0
expect_starts 1

begin a_refusal_is_final refuse
finish 2
expect_starts 1

begin restarts_when_asked restart
finish 0
expect_starts 2
expect_log 'asked for a restart'

begin gives_up always --max-restarts 2
finish 1
expect_starts 3
expect_log 'giving up'

begin restarts_after_work_are_not_counted worked --max-restarts 2
finish 0
expect_starts 5

begin rank_0_killed run
await_start 1
expect_variable GOMP_SPINCOUNT=2000
pid=$(pid_of 0)
forget_pids
kill -KILL "$pid"
await_start 2
expect_log 'rank 0 was killed'
kill -TERM "$launcher_pid"
finish 143
expect_starts 2

export GOMP_SPINCOUNT=7 # One's own stays.
begin worker_killed run
unset GOMP_SPINCOUNT
await_start 1
expect_variable GOMP_SPINCOUNT=7
pid=$(pid_of 2)
forget_pids
kill -KILL "$pid"
await_start 2
kill -INT "$(cat "$folder"/rank-0)" # A signal to rank 0 itself ends the service too.
finish 130

begin all_killed run
await_start 1
pids=$(cat "$folder"/rank-*)
forget_pids
# shellcheck disable=SC2086
kill -KILL $pids
await_start 2
kill -TERM "$launcher_pid"
finish 143

begin mpirun_killed run
await_start 1
mpirun_pid=$(ps -o ppid= -p "$(pid_of 0)" | tr -d ' ')
forget_pids
kill -KILL "$mpirun_pid"
await_start 2
kill -INT "$launcher_pid" # Not from a terminal: an asynchronous command of a script ignores it,
sleep 0.5                 # so nothing may happen.
kill -TERM "$launcher_pid"
finish 143

test_name=nobody_reads_the_log_any_more
folder=$work/$test_name
mkdir "$folder"
mkfifo "$work/pipe"
echo "$test_name" | tee "$folder/log"
cat "$work/pipe" >/dev/null &
reader_pid=$!
TMPDIR=$folder "$launcher" -n 3 --mpirun "${IMAGEDDPO_MPIRUN:-}" --program "$daemon" -- run "$folder" >/dev/null 2>"$work/pipe" &
launcher_pid=$!
await_start 1
kill "$reader_pid"
kill -TERM "$launcher_pid"
finish 143

begin a_closed_terminal_ends_in_order run
await_start 1
kill -HUP "$launcher_pid"
finish 129
expect_starts 1

begin a_start_that_hangs_is_tried_again stuck --start-timeout 8
await_start 1
expect_log 'have not all started within 8 s'
expect_log 'rank 1 (process [0-9]*) was stopped'
expect_log 'the start hung; starting all ranks again'
kill -TERM "$launcher_pid"
finish 143
expect_starts 1

begin stopped_worker_does_not_hold_up_the_end run --stop-timeout 2
await_start 1
kill -STOP "$(pid_of 1)"
kill -TERM "$launcher_pid"
finish 143

begin deaf_service_is_killed deaf --stop-timeout 2
await_start 1
kill -TERM "$launcher_pid"
finish 143

begin second_signal_ends_at_once deaf
await_start 1
kill -TERM "$launcher_pid"
sleep 1
kill -TERM "$launcher_pid"
finish 143

begin launcher_killed run
await_start 1
kill -KILL "$launcher_pid"
wait "$launcher_pid" 2>/dev/null
for _ in {1..100}; do
  kill -0 $(cat "$folder"/rank-*) 2>/dev/null || break
  sleep 0.1
done
sleep 1
left=$(grep -lz "^IMAGEDDPO_RUN_DIR=$folder/" /proc/[0-9]*/environ 2>/dev/null)
[[ -z $left ]] || fail "still running: $left"
if abandoned_shm; then # The next start, a minute later, removes it.
  # shellcheck disable=SC2086
  touch --date '2 minutes ago' $abandoned
fi
old_shm=$abandoned

# Two at once, one of which loses its controller.
begin side_by_side_a run
await_start 1
folder_a=$folder launcher_a=$launcher_pid
for dir in $(find /dev/shm -maxdepth 1 -name 'imageddpo-run.*' -newer "$work/began" 2>/dev/null); do
  # A launch that is older than a minute and still runs.
  flock --nonblock "$dir/lock" true 2>/dev/null || touch --date '2 minutes ago' "$dir"
done
begin side_by_side_b run
await_start 1
for dir in $old_shm; do [[ ! -e $dir ]] || fail "$dir of a killed launch is still there"; done
pid=$(pid_of 0)
forget_pids
kill -KILL "$pid"
await_start 2
kill -TERM "$launcher_pid"
finish 143
folder=$folder_a launcher_pid=$launcher_a test_name=side_by_side_a
kill -TERM "$launcher_pid"
finish 143
expect_starts 1

# Mistakes of the caller.
for arguments in "-n 0" "-n three" "-n" "--config /no/such/file" "--program /no/such/file" "--what" "--mpirun /no/mpirun"; do
  test_name="refuses $arguments" folder=$work
  # shellcheck disable=SC2086
  "$launcher" $arguments >"$work/log" 2>&1
  code=$?
  [[ $code == 2 && -s $work/log ]] || fail "exit code $code"
done

[[ $failures == 0 ]] || exit 1
echo "all passed"
