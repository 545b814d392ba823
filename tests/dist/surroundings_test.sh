#!/usr/bin/env bash
# surroundings_test.sh FAKE_DAEMON: deploy/imageddpod-run where users start it: host files as editors and
# schedulers leave them, variables of launchers that are gone, bare environments. Each case is up, or has one
# message, at once, that names what to change.
set -uo pipefail
launcher=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../deploy" && pwd)/imageddpod-run
daemon=$1
[[ -x $daemon ]] || exit 2
work=$(mktemp -d "${TMPDIR:-/tmp}/surroundings.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0
environment=(LC_ALL=C)
before=()
count=0

# start [launcher options...]: sets $code, and $folder with the service's files and its log.
start() {
  count=$((count + 1))
  folder=$work/$count
  mkdir "$folder"
  "${before[@]}" env "${environment[@]}" timeout 60 "$launcher" -n 3 --mpirun "${IMAGEDDPO_MPIRUN:-}" --program "$daemon" "$@" \
    -- clean "$folder" >"$folder/log" 2>&1
  code=$?
}
fail() {
  echo "FAILED: $name: $*" >&2
  sed 's/^/    /' "$folder/log" >&2
  failures=$((failures + 1))
}
# up NAME [options...]: the service starts once and ends with 0.
up() {
  name=$1
  echo "$name"
  start "${@:2}"
  [[ $code == 0 && $(cat "$folder/starts" 2>/dev/null) == start ]] || fail "exit code $code"
}
# refused NAME TEXT [options...]: nothing is started; one line says why.
refused() {
  name=$1
  echo "$name"
  start "${@:3}"
  [[ $code == 2 && ! -e $folder/starts ]] || fail "exit code $code"
  [[ $(wc -l <"$folder/log") == 1 ]] || fail "not one line"
  grep -qF -- "$2" "$folder/log" || fail "no \"$2\""
}
hosts() {
  printf "$1" >"$work/hosts"
  file=$work/hosts
}

hosts 'localhost slots=3\r\n' && up crlf --hostfile "$file"
hosts '\xef\xbb\xbf# ours\r\n\r\nlocalhost\tslots = 3 # all\n' && up byte_order_mark_and_blanks --hostfile "$file"
hosts '::1 slots=3' && up an_ipv6_address_without_a_line_end --hostfile "$file"
hosts '[::1] slots=2\n127.0.0.1 slots=1 max_slots=4\n' && up this_host_by_two_names --hostfile "$file"
hosts 'localhost slots=1\n' && up more_than_slots_when_asked --hostfile "$file" --oversubscribe
hosts 'localhost slots=1\n' && refused too_few 'has 1 slot(s) and -n asks for 3 processes' --hostfile "$file"
hosts 'localhost slots=3\nno-such-host.invalid slots=2\n' &&
  refused unknown_host "$file, line 2: no address is known for the host no-such-host.invalid" --hostfile "$file"
hosts '\n192.0.2.1 slots=3\n' && refused another_host_first "$file, line 2: rank 0 runs on this host" --hostfile "$file"
for line in 'localhost slot=3' 'localhost slots=three' 'localhost slots=0' 'localhost slots=-1' 'localhost 3' 'localhost,other'; do
  hosts "$line\n" && refused "line: $line" "$file, line 1: " --hostfile "$file"
done
hosts '# nobody\n' && refused only_comments 'names no host' --hostfile "$file"
hosts '' && refused empty 'names no host' --hostfile "$file"
hosts '\xff\xfel\0o\0c\0' && refused utf16 "$file, line 1: " --hostfile "$file"
refused no_such_file '/no/such/file, given with --hostfile, does not exist' --hostfile /no/such/file
refused a_folder 'is not a file that can be read' --hostfile "$work"

environment=(SLURM_JOB_ID=5 SLURM_JOBID=5 SLURM_NNODES=2 SLURM_JOB_NUM_NODES=2 SLURM_NODELIST=a,b
  SLURM_JOB_NODELIST=a,b SLURM_TASKS_PER_NODE='1(x2)' SLURM_NTASKS=2)
up variables_of_a_slurm_job_that_is_gone
environment=(PMIX_RANK=0 PMIX_NAMESPACE=x PMIX_SERVER_URI41=prterun-x.0 PMI_RANK=1 OMPI_COMM_WORLD_SIZE=4
  OMPI_COMM_WORLD_RANK=1 PRTE_LAUNCHED=1 OMPI_MCA_ess=pmi OMPI_MCA_orte_hnp_uri=x PRTE_MCA_ess_base_vpid=2)
up variables_of_another_mpirun
environment=(PBS_NODEFILE=/no/such/file LSB_DJOB_HOSTFILE=/no/such/file)
up host_files_of_schedulers_that_are_gone
environment=(-i "IMAGEDDPO_MPIRUN=${IMAGEDDPO_MPIRUN:-}")
up an_empty_environment
environment=(TMPDIR=/no/such/folder)
up no_temporary_folder
mkdir -p "$work/$(printf 'x%.0s' {1..90})" "$work/with blanks"
environment=("TMPDIR=$work/$(printf 'x%.0s' {1..90})")
up a_long_temporary_folder
environment=("TMPDIR=$work/with blanks")
up a_temporary_folder_with_blanks
environment=(OMP_PROC_BIND=true OMP_PLACES=nonsense OMP_NUM_THREADS=99 GOMP_CPU_AFFINITY=0)
up settings_of_openmp
environment=(http_proxy=http://192.0.2.1:9 https_proxy=http://192.0.2.1:9 LC_ALL=xx LANG=xx)
up a_proxy_and_no_such_locale
environment=(LC_ALL=C)
before=(taskset -c 0)
up one_processor
before=()

name=check
start --check
[[ $code == 0 && ! -e $folder/starts ]] || fail "exit code $code"
for word in program mpirun ranks hosts processors GPUs memory /dev/shm temporary limits; do
  grep -q "^$word " "$folder/log" || fail "does not tell $word"
done
name='check with two faults'
start --check --config /no/such/config --hostfile /no/such/hosts
[[ $code == 2 ]] || fail "exit code $code"
grep -q /no/such/config "$folder/log" || fail "does not name the first"
grep -q /no/such/hosts "$folder/log" || fail "does not name the second"

# mpirun itself does not start anything: told once.
name='an mpirun that fails'
printf '#!/bin/sh\n[ "$1" = --version ] && exec echo another MPI\necho banner >&2\nexit 1\n' >"$work/mpirun"
chmod +x "$work/mpirun"
start --mpirun "$work/mpirun"
[[ $code == 1 && $(grep -c banner "$folder/log") == 1 ]] || fail "exit code $code"
grep -q 'mpirun did not start the service' "$folder/log" || fail "does not say so"

[[ $failures == 0 ]] || exit 1
echo "all passed"
