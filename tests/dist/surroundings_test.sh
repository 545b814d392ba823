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
  [[ $(wc -l <"$folder/log") == "${lines:-1}" ]] || fail "not one line"
  grep -qF -- "$2" "$folder/log" || fail "no \"$2\""
}
hosts() {
  # shellcheck disable=SC2059
  printf "$@" >"$work/hosts"
  file=$work/hosts
}

# program NAME TEXT: a program of that name, found first where PATH begins with this folder.
mkdir "$work/bin"
program() {
  printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}

hosts 'localhost slots=3\r\n' && up crlf --hostfile "$file"
hosts '\xef\xbb\xbf# ours\r\n\r\nlocalhost\tslots = 3 # all\n' && up byte_order_mark_and_blanks --hostfile "$file"
hosts '::1 slots=3' && up an_ipv6_address_without_a_line_end --hostfile "$file"
hosts '[::1] slots=2\n127.0.0.1 slots=1 max_slots=4\n' && up this_host_by_two_names --hostfile "$file"
hosts 'localhost slots=1\n' && up more_than_slots_when_asked --hostfile "$file" --oversubscribe
hosts 'localhost slots=1\n' && refused too_few 'has 1 slot(s) and -n asks for 3 processes' --hostfile "$file"
environment=("PATH=$work/bin:$PATH")
program getent 'exit 2'
hosts 'localhost slots=3\nno-such-host.invalid slots=2\n' &&
  refused unknown_host "$file, line 2: no address is known for the host no-such-host.invalid" --hostfile "$file"
program getent 'exit 124' # As timeout has it.
hosts 'localhost\nsomewhere\n' && refused a_silent_name_server "$file, line 2: the name server does not answer" --hostfile "$file"
program getent 'echo 192.0.2.1'
program ssh 'echo banner >&2; echo Host key verification failed. >&2; exit 255'
hosts 'localhost slots=2\n192.0.2.1 slots=1\n192.0.2.1 slots=1\n' && refused no_way_to_another_host \
  'the host 192.0.2.1 cannot be reached: ssh 192.0.2.1 true has to work without a question (Host key verification failed.)' --hostfile "$file"
program ssh 'echo no such file >&2; exit 2'
refused another_host_without_the_program 'the host 192.0.2.1 lacks a program' --hostfile "$file"
environment=(LC_ALL=C)
hosts '\n192.0.2.1 slots=3\n' && refused another_host_first "$file, line 2: rank 0 runs on this host" --hostfile "$file"
hosts 'localhost slot=3\nlocalhost slots=three\nlocalhost slots=0\nlocalhost slots=-1\nlocalhost,other\nlocalhost 3\n' &&
  lines=6 refused six_lines "$file, line 6: not looked at" --hostfile "$file"
for number in {1..5}; do grep -q "$file, line $number: .* a line is: HOST slots=N" "$folder/log" || fail "line $number"; done
hosts '# nobody\n' && refused only_comments 'names no host' --hostfile "$file"
hosts 'localhost:1\rlocalhost\xc2\xa0slots=2 max-slots=4\r' && up old_line_ends_and_the_notation_of_mpich --hostfile "$file"
hosts '\xff\xfel\0o\0c\0a\0l\0h\0o\0s\0t\0:\0003\0\r\0\n\0' && up utf16 --hostfile "$file"
hosts 'localhost slots=4 max_slots=3\n' && refused more_than_max_slots "$file, line 1: 4 slot(s) are more than" --hostfile "$file"
hosts '' && refused empty 'names no host' --hostfile "$file"
refused no_such_file '/no/such/file, given with --hostfile, does not exist' --hostfile /no/such/file
refused a_folder 'is not a file that can be read' --hostfile "$work"

program getent 'exit 2'
environment=(-u HOME "PATH=$work/bin:$PATH")
ln -s "$launcher" "$work/link"
launcher=$work/link
before=(bash -c 'umask 377; ulimit -S -n 20; trap "" HUP; exec <&-; exec "$@"' bash)
up an_unknown_user_a_narrow_umask_few_files_no_terminal_by_a_link
launcher=$(readlink "$work/link")
before=()

environment=(SLURM_JOB_ID=5 SLURM_JOBID=5 SLURM_NNODES=2 SLURM_JOB_NUM_NODES=2 SLURM_NODELIST='a,b'
  SLURM_JOB_NODELIST='a,b' SLURM_TASKS_PER_NODE='1(x2)' SLURM_NTASKS=2
  PBS_JOBID=5 PBS_ENVIRONMENT=PBS_BATCH COBALT_JOBID=5 LSB_DJOB_HOSTFILE=/no/such/file
  SGE_ROOT=/sge ARC=x JOB_ID=5 PE_HOSTFILE=/etc/passwd)
up variables_of_schedulers_that_are_gone
environment=(PMIX_RANK=0 PMIX_NAMESPACE=x PMIX_SERVER_URI41=prterun-x.0 PMI_RANK=1 OMPI_COMM_WORLD_SIZE=4
  OMPI_COMM_WORLD_RANK=1 PRTE_LAUNCHED=1 OMPI_MCA_ess=pmi OMPI_MCA_orte_hnp_uri=x PRTE_MCA_ess_base_vpid=2
  PMI_FD=9 OPAL_PREFIX=/no PMIX_PREFIX=/no PRTE_PREFIX=/no RANK=1 WORLD_SIZE=4 MASTER_ADDR=x FLUX_JOB_ID=x
  PALS_RANKID=0 MV2_COMM_WORLD_RANK=1 I_MPI_ROOT=/no CUDA_VISIBLE_DEVICES=NoDevFiles POSIXLY_CORRECT=1
  CDPATH=/ BASH_ENV=/no/such/file LD_LIBRARY_PATH=/no/such/folder)
up variables_of_other_launchers
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
cp -rs /usr/bin "$work/without-ssh" && rm -f "$work"/without-ssh/{ssh,rsh}
hosts 'localhost slots=64\n'
environment=(PATH="$work/without-ssh")
up more_slots_than_processors_without_ssh --hostfile "$file"
environment=(LC_ALL=C)
environment=(http_proxy=http://192.0.2.1:9 https_proxy=http://192.0.2.1:9 LC_ALL=xx LANG=xx)
up a_proxy_and_no_such_locale
environment=(LC_ALL=C)
before=(taskset -c 0)
up one_processor
before=()

name=check
start --check
[[ $code == 0 && ! -e $folder/starts ]] || fail "exit code $code"
for word in program mpirun ranks hosts processors GPUs memory /dev/shm temporary limits settings; do
  grep -q "^$word " "$folder/log" || fail "does not tell $word"
done
name='check with two faults'
start --check --config /no/such/config --hostfile /no/such/hosts
[[ $code == 2 ]] || fail "exit code $code"
grep -q /no/such/config "$folder/log" || fail "does not name the first"
grep -q /no/such/hosts "$folder/log" || fail "does not name the second"

environment=(LC_ALL=C)
before=(bash -c 'mkdir gone && cd gone && rmdir ../gone && exec "$@"' bash)
cd "$work" || exit 2
lines=2 refused no_current_folder 'the current folder is gone' # bash has a line of its own.
before=(bash -c 'ulimit -n 64 -f 1000 -v 100000 -d 100000; exec "$@"' bash)
lines=4 refused low_limits 'the limit of open files is 64 and 112 are needed: raise it'
for word in "a file's size" 'address space' 'data'; do grep -q "the limit of .*$word" "$folder/log" || fail "no $word"; done
before=()
refused far_too_many_processes '-n 999999 asks for 999999 processes' -n 999999
for number in -n:abc -n:99999999999999999999 --stop-timeout:-1; do
  refused "number $number" "${number/:/ }: not a whole number" "${number%%:*}" "${number#*:}"
done
{ head -c 18 /bin/sh && printf '\x2a\x00' && tail -c +21 /bin/sh; } >"$work/program"
refused no_permission_to_execute 'is not a program: chmod' --program "$work/program"
chmod +x "$work/program"
refused another_processor 'is no program for this processor' --program "$work/program"
refused no_program 'does not exist: run make build' --program /no/such/program
refused a_broken_mpirun '--version does not say what it is' --mpirun /bin/false

# mpirun itself does not start anything: told once, with the settings that may be why.
name='an mpirun that fails'
program mpirun '[ "$1" = --version ] && exec echo another MPI; echo banner >&2; exit 1'
environment=(LC_ALL=C OMPI_MCA_coll=tuned)
start --mpirun "$work/bin/mpirun"
[[ $code == 1 && $(grep -c banner "$folder/log") == 1 ]] || fail "exit code $code"
grep -q 'mpirun did not start the service.*without OMPI_MCA_coll of' "$folder/log" || fail "does not say so"

[[ $failures == 0 ]] || exit 1
echo "all passed"
