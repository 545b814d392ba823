# shellcheck shell=bash
# What imageddpod-run finds where it is started: host file, other launchers' variables, temporary folder,
# processors. Sourced by it, after mpi.sh. Every fault is one line in the array $faults, every thing that was
# changed or left out one line in $notes.
#
#   read_hosts FILE RANKS OVERSUBSCRIBE
#                             judges a host file; sets $host_lines, the file as mpirun reads it (no CRs, no
#                             byte order mark, no comments), and $hosts_local: 1 when all are this host
#   choose_allocation         sets $allocation: "slurm", "other" (PBS, LSF) or nothing, and removes the
#                             variables of launchers and allocations that are not there (any more)
#   choose_temporary_folder   sets $temporary_folder: TMPDIR, or /tmp where TMPDIR does not suit
#   choose_home               sets HOME where the environment has none
#   clean_openmp              removes settings that would bind the threads of all ranks to the same cores
#   usable_processors         prints how many processors this process may use

faults=()
notes=()

# True when the name or address is one of this host's.
is_this_host() {
  local name=$1 address own
  case $name in localhost | localhost.localdomain | 127.* | ::1) return 0 ;; esac
  own=$(uname -n)
  [[ $name == "$own" || $name == "${own%%.*}" ]] && return 0
  while read -r address _; do
    case $address in 127.* | ::1) return 0 ;; esac
    if [[ " $(own_addresses) " == *" $address "* ]]; then return 0; fi
  done < <(timeout 10 getent ahosts "$name" 2>/dev/null)
  return 1
}

own_addresses() { hostname -I 2>/dev/null | tr '\n' ' ' || true; }

read_hosts() {
  local file=$1 ranks=$2 oversubscribe=$3 line number=0 word host slots total=0 counted=1 first=1 remote=
  host_lines=
  hosts_local=1
  local where
  if [[ ! -e $file ]]; then
    faults+=("$file, given with --hostfile, does not exist")
    return
  elif [[ ! -f $file && ! -p $file && ! -c $file || ! -r $file ]]; then
    faults+=("$file, given with --hostfile, is not a file that can be read")
    return
  fi
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    where="$file, line $number"
    if ((number == 1)); then line=${line#$'\xef\xbb\xbf'}; fi
    line=${line%$'\r'}
    line=${line%%#*}
    line=$(sed -E 's/[[:space:]]*=[[:space:]]*/=/g' <<<"$line")
    local words=()
    read -ra words <<<"$line" || true
    ((${#words[@]})) || continue
    host=${words[0]}
    if [[ $host == \[*\] ]]; then host=${host:1:-1}; fi # An IPv6 address as in a URL.
    if [[ ! ${host#*@} =~ ^[A-Za-z0-9._:%-]+$ ]]; then
      faults+=("$where: $(printf %q "$host") is not a host name or address; a line is: HOST slots=N")
      continue
    fi
    slots=
    for word in "${words[@]:1}"; do
      if [[ $word =~ ^slots=([0-9]{1,6})$ ]] && ((10#${BASH_REMATCH[1]} > 0)); then
        slots=$((10#${BASH_REMATCH[1]}))
      elif [[ ! $word =~ ^max[-_]slots=[0-9]{1,6}$ ]]; then
        faults+=("$where: $(printf %q "$word") is not understood; a line is: HOST slots=N, with N from 1 on")
        continue 2
      fi
    done
    if is_this_host "${host#*@}"; then
      if [[ -z $slots ]]; then slots=$(usable_processors); fi
    else
      if ! timeout 10 getent ahosts "${host#*@}" >/dev/null 2>&1; then
        faults+=("$where: no address is known for the host ${host#*@}; check the name, or add it to /etc/hosts")
        continue
      fi
      if ((first)); then
        faults+=("$where: rank 0 runs on this host, $(uname -n), which therefore comes first in a host file")
      fi
      hosts_local=0
      remote=${remote:-${host#*@}}
    fi
    first=0
    if [[ -z $slots ]]; then counted=0; else total=$((total + slots)); fi
    host_lines+="$host ${words[*]:1}"$'\n'
  done < <(tr -d '\0' <"$file")
  ((${#faults[@]} == 0)) || return 0
  # One name for this host, whatever its lines call it: mpirun may take an address for another host.
  if ((hosts_local)) && [[ -n $host_lines ]]; then host_lines="localhost slots=$total"$'\n'; fi
  if [[ -z $host_lines ]]; then
    faults+=("$file names no host; a line is: HOST slots=N")
  elif ((counted && !oversubscribe && total < ranks)); then
    faults+=("$file has $total slot(s) and -n asks for $ranks processes: raise slots=, lower -n, or add --oversubscribe")
  fi
  if [[ -n $remote ]] && ! command -v ssh >/dev/null && [[ -z ${PRTE_MCA_plm_ssh_agent:-}${OMPI_MCA_plm_rsh_agent:-} ]]; then
    faults+=("$file names another host, $remote, and this one has no ssh: install openssh-client")
  fi
}

# Removes the variables whose names begin so; says what they were.
forget_variables() {
  local why=$1 pattern=$2 names
  mapfile -t names < <(compgen -e | grep -E "$pattern" || true)
  ((${#names[@]})) || return 0
  unset "${names[@]}"
  notes+=("${#names[@]} variables are ignored, such as ${names[0]}: $why")
}

# What mpirun tells its processes; what a user sets is OMPI_MCA_, PRTE_MCA_ and PMIX_MCA_.
readonly launcher_variables='^(PMI_|PMI[0-9]_|PMIX_(RANK|NAMESPACE|SERVER|HOSTNAME|VERSION|SYSTEM|GDS|SECURITY|PTL|BFROP|KEEPALIVE|ID|DSTPATH|MCA_mca_base)|PRTE_(LAUNCHED|NODE|JOB|PREFIX)|OMPI_(COMM_|APP_|ARGV|COMMAND|FILE_|FIRST_|MCA_(ess|orte|pmix|plm_|ras|mpi_oversubscribe|shmem_RUNTIME)|NUM_|UNIVERSE|PREFIX|WORLD)|PRTE_MCA_(ess|plm|ras|prte_(hnp|ess|parent|launch)))'

choose_allocation() {
  allocation=
  forget_variables "they belong to another mpirun, in which this was started" "$launcher_variables"
  if [[ -n ${SLURM_JOB_ID:-${SLURM_JOBID:-}} ]]; then
    local job=${SLURM_JOB_ID:-$SLURM_JOBID} state='' why=
    if ! command -v srun >/dev/null || ! command -v scontrol >/dev/null; then
      why="this host has no Slurm"
    else
      state=$(timeout 20 squeue --noheader --jobs "$job" --format %T 2>/dev/null || true)
      if [[ $state != RUNNING ]]; then
        why="Slurm's job $job is not running"
      elif ! timeout 20 scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null | grep -qxF -e "$(uname -n)" -e "$(hostname -s)"; then
        why="this host is not one of Slurm's job $job"
      fi
    fi
    if [[ -n ${hostfile:-} && -z $why ]]; then why="a host file is given"; fi
    if [[ -n $why ]]; then forget_variables "$why" '^SLURM'; else allocation=slurm; fi
  else
    forget_variables "they name no job" '^SLURM_(NODELIST|JOB_NODELIST|NNODES|TASKS_PER_NODE|NTASKS|JOB_NUM_NODES)'
  fi
  local name
  for name in PBS_NODEFILE LSB_DJOB_HOSTFILE; do
    [[ -n ${!name:-} ]] || continue
    if [[ -n ${hostfile:-} ]]; then
      forget_variables "a host file is given" "^${name%%_*}_"
    elif [[ ! -r ${!name} ]]; then
      forget_variables "${!name}, which $name names, cannot be read" "^${name%%_*}_"
    elif [[ -z $allocation ]]; then
      allocation=other
    fi
  done
}

choose_temporary_folder() {
  temporary_folder=${TMPDIR:-/tmp}
  local why=
  if [[ ! -d $temporary_folder || ! -w $temporary_folder || ! -x $temporary_folder ]]; then
    why="is not a folder that can be written to"
  elif ((${#temporary_folder} > 60)); then
    why="is too long for the names of sockets"
  elif [[ $temporary_folder == *[[:space:]]* ]]; then
    why="has blanks in it"
  fi
  [[ -n $why ]] || return 0
  notes+=("/tmp is used: TMPDIR, $temporary_folder, $why")
  temporary_folder=/tmp
  export TMPDIR=/tmp
  [[ -w /tmp ]] || faults+=("neither TMPDIR nor /tmp can be written to; set TMPDIR to a folder that can")
}

# Open MPI does not start without one.
choose_home() {
  [[ -z ${HOME:-} ]] || return 0
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  if [[ ! -d $HOME ]]; then HOME=/tmp; fi
  export HOME
}

clean_openmp() {
  forget_variables "they would bind the threads of all ranks to the same cores" \
    '^(OMP_PROC_BIND|OMP_PLACES|GOMP_CPU_AFFINITY|OMP_THREAD_LIMIT|KMP_AFFINITY)$'
}

# Affinity, and the quota of this control group (version 2, or 1).
usable_processors() {
  local processors quota= period= folder
  processors=$(OMP_NUM_THREADS='' OMP_THREAD_LIMIT='' nproc)
  for folder in /sys/fs/cgroup /sys/fs/cgroup/cpu "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null)"; do
    if [[ -r $folder/cpu.max ]]; then
      read -r quota period <"$folder/cpu.max" || true
    elif [[ -r $folder/cpu.cfs_quota_us ]]; then
      quota=$(<"$folder/cpu.cfs_quota_us") period=$(<"$folder/cpu.cfs_period_us")
    fi
    if [[ $quota =~ ^[1-9][0-9]*$ && $period =~ ^[1-9][0-9]*$ ]] && ((quota / period < processors)); then
      processors=$((quota / period > 0 ? quota / period : 1))
    fi
  done
  echo "$processors"
}
