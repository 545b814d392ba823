# shellcheck shell=bash
# What imageddpod-run finds where it is started: host file, other launchers' variables, temporary folder,
# processors. Sourced by it, after mpi.sh, and by build-jobs.sh. Every fault is one line in the array $faults, every thing that was
# changed or left out one line in $notes.
#
#   read_hosts FILE RANKS OVERSUBSCRIBE
#                             judges a host file, and whether ssh gets to its hosts; sets $host_lines, the
#                             file as mpirun reads it, and $hosts_local: 1 when all are this host
#   forget_launchers          removes the variables of other launchers than $mpirun
#   own_settings              prints the names of the user's settings of MPI
#   choose_allocation         sets $allocation: "slurm", "other" (PBS, LSF, SGE) or nothing, and removes the
#                             variables of allocations that are not there (any more)
#   choose_temporary_folder RANKS
#                             sets $temporary_folder and TMPDIR: TMPDIR, or /tmp where TMPDIR does not suit
#   choose_home               sets HOME where the environment has none
#   clean_openmp              removes settings that would bind the threads of all ranks to the same cores
#   check_limits RANKS        raises the limits (ulimit) that are too low for so many ranks, where it may
#   check_memory RANKS        false, with a fault, where there is not enough for so many ranks on this host
#   memory_mib                prints how much memory there is
#   check_loopback            looks whether 127.0.0.1 is there
#   runs_here PROGRAM         true for a script, and for a program of this processor
#   usable_processors         prints how many processors this process may use

faults=()
notes=()

# Sets $place of a host name or address: local, remote, unknown (no address) or silent (no answer).
locate_host() {
  local name=${1,,} addresses address code=0
  own_name=${own_name-$(uname -n | tr '[:upper:]' '[:lower:]')}
  place=local
  case $name in localhost | localhost.localdomain | 127.* | ::1 | "$own_name" | "${own_name%%.*}") return ;; esac
  addresses=$(timeout 5 getent ahosts "$name" 2>/dev/null) || code=$?
  own_addresses=${own_addresses-" $(hostname -I 2>/dev/null || true) "}
  while read -r address _; do
    case $address in 127.* | ::1) return ;; esac
    if [[ -n $address && $own_addresses == *" $address "* ]]; then return; fi
  done <<<"$addresses"
  case $code in 0) place=remote ;; 124) place=silent ;; *) place=unknown ;; esac
}

# The text of a host file as an editor of Unix would have left it: other line ends, byte order marks, UTF-16
# and blanks that do not break are what other editors and web pages leave.
plain_text() {
  timeout 5 head -c 4000000 -- "$1" | tr -d '\0' | LC_ALL=C sed -E \
    '1s/^(\xef\xbb\xbf|\xff\xfe|\xfe\xff)//; s/\r$//; s/\xc2\xa0/ /g; s/[[:blank:]]*=[[:blank:]]*/=/g' | tr '\r' '\n'
}

read_hosts() {
  local file=$1 ranks=$2 oversubscribe=$3 text line number=0 word host slots most place total=0 counted=1 first=1
  local where own_name own_addresses faults_before=${#faults[@]}
  local -A places=()
  host_lines=
  hosts_local=1
  if [[ ! -e $file ]]; then
    faults+=("$file, given with --hostfile, does not exist")
    return
  elif [[ ! -f $file && ! -p $file && ! -c $file || ! -r $file ]]; then
    faults+=("$file, given with --hostfile, is not a file that can be read")
    return
  fi
  text=$(plain_text "$file") || {
    faults+=("$file, given with --hostfile, could not be read within 5 s")
    return
  }
  while IFS= read -r line; do
    number=$((number + 1))
    where="$file, line $number"
    if ((${#faults[@]} - faults_before >= 5)); then
      faults+=("$where: not looked at, nor are the lines below, before those above are put right")
      return
    fi
    local words=()
    read -ra words <<<"${line%%#*}" || true
    ((${#words[@]})) || continue
    host=${words[0]} slots= most=
    if [[ $host == \[*\] ]]; then host=${host:1:-1}; fi # An IPv6 address as in a URL.
    if [[ $host =~ ^([^:]+):([0-9]{1,6})$ ]]; then     # As MPICH has it.
      host=${BASH_REMATCH[1]}
      words+=("slots=${BASH_REMATCH[2]}")
    fi
    if [[ ! $host =~ ^([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9:][A-Za-z0-9._:%-]*$ ]]; then
      faults+=("$where: $(printf %q "$host") is not a host name or address; a line is: HOST slots=N")
      continue
    fi
    for word in "${words[@]:1}"; do
      if [[ $word =~ ^slots=([0-9]{1,6})$ ]] && ((10#${BASH_REMATCH[1]} > 0)); then
        slots=$((10#${BASH_REMATCH[1]}))
      elif [[ $word =~ ^max[-_]slots=([0-9]{1,6})$ ]]; then
        most=$((10#${BASH_REMATCH[1]}))
      else
        faults+=("$where: $(printf %q "$word") is not understood; a line is: HOST slots=N, with N from 1 on")
        continue 2
      fi
    done
    if [[ -z ${places[$host]:-} ]]; then
      locate_host "${host#*@}"
      places[$host]=$place
    fi
    case ${places[$host]} in
      local) slots=${slots:-$(usable_processors)} ;;
      remote)
        hosts_local=0
        if ((first)); then
          faults+=("$where: rank 0 runs on this host, $(uname -n), which therefore comes first in a host file")
        fi
        ;;
      unknown)
        faults+=("$where: no address is known for the host ${host#*@}; check the name, or add it to /etc/hosts")
        continue
        ;;
      silent)
        faults+=("$where: the name server does not answer for the host ${host#*@}; add it to /etc/hosts, or give its address")
        return
        ;;
    esac
    first=0
    if [[ -n $most ]] && ((${slots:-1} > most)); then
      faults+=("$where: ${slots:-1} slot(s) are more than max_slots=$most; lower slots= or raise max_slots=")
    fi
    if [[ -z $slots ]]; then counted=0; else total=$((total + slots)); fi
    host_lines+="$host${slots:+ slots=$slots}${most:+ max_slots=$most}"$'\n'
  done <<<"$text"
  ((${#faults[@]} == faults_before)) || return 0
  # One name for this host, whatever its lines call it: mpirun may take an address for another host.
  if ((hosts_local)) && [[ -n $host_lines ]]; then host_lines="localhost slots=$total"$'\n'; fi
  if [[ -z $host_lines ]]; then
    faults+=("$file names no host; a line is: HOST slots=N")
  elif ((counted && !oversubscribe && total < ranks)); then
    faults+=("$file has $total slot(s) and -n asks for $ranks processes: raise slots=, lower -n, or add --oversubscribe")
  elif ((!hosts_local)) && [[ -z ${PRTE_MCA_plm_ssh_agent:-}${OMPI_MCA_plm_rsh_agent:-} ]]; then
    for host in "${!places[@]}"; do
      if [[ ${places[$host]} != remote ]]; then unset "places[$host]"; fi
    done
    reach_hosts "$file" "${!places[@]}"
  fi
}

# Whether ssh gets to these hosts without a question, and finds the programs there.
reach_hosts() {
  local file=$1 host started=0 found=()
  shift
  if ! command -v ssh >/dev/null; then
    faults+=("$file names another host, $1, and this one has no ssh: install openssh-client")
    return
  fi
  mapfile -t found < <(
    for host; do
      reach_host "$host" &
      started=$((started + 1))
      if ((started > 32)); then wait -n || true; fi
    done
    wait
  )
  faults+=("${found[@]/#/"$file: "}")
}

reach_host() {
  local said code=0 command
  command=$(printf 'ls -d %q %q' "$mpirun" "$program")
  said=$(timeout 20 ssh -x -o BatchMode=yes -o ConnectTimeout=10 -- "$1" "$command" 2>&1 >/dev/null </dev/null) || code=$?
  said=$(tail -n 1 <<<"$said" | tr -d '\r')
  case $code in
    0) ;;
    124) echo "the host $1 does not answer ssh within 20 s: ssh $1 true has to work without a question" ;;
    255) echo "the host $1 cannot be reached: ssh $1 true has to work without a question (${said:-no reason given})" ;;
    *) echo "the host $1 lacks a program; this tree has to lie in the same folder there (${said:-exit code $code})" ;;
  esac
}

# Removes the variables whose names begin so; says what they were.
forget_variables() {
  local why=$1 pattern=$2 names
  mapfile -t names < <(compgen -e | grep -E "$pattern" || true)
  ((${#names[@]})) || return 0
  unset "${names[@]}"
  if ((${#names[@]} == 1)); then
    notes+=("${names[0]} is ignored: $why")
  else
    notes+=("${#names[@]} variables are ignored, such as ${names[0]}: $why")
  fi
}

forget_launchers() {
  local name
  for name in OPAL_PREFIX PMIX_PREFIX PMIX_INSTALL_PREFIX PRTE_PREFIX; do
    if [[ -n ${!name:-} && $(readlink -f "$mpirun") != "$(readlink -f "${!name}")"/* ]]; then
      forget_variables "$mpirun is not in the folder that it names" "^$name$"
    fi
  done
  forget_variables "this was started in another mpirun, or in a shell that was" "$launcher_variables"
}

# What mpirun tells its processes; what a user sets is other OMPI_MCA_, PRTE_MCA_ and PMIX_MCA_.
readonly launcher_variables='^(PMI_|PMI[0-9]_|FLUX_(JOB|TASK)_|PMIX_(RANK|NAMESPACE|SERVER|HOSTNAME|VERSION|SYSTEM|GDS|SECURITY|PTL|BFROP|KEEPALIVE|ID|DSTPATH|MCA_mca_base)|PRTE_(LAUNCHED|NODE|JOB|PREFIX)|OMPI_(COMM_|APP_|ARGV|COMMAND|FILE_|FIRST_|MCA_(ess|orte|pmix|mpi_oversubscribe|shmem_RUNTIME)|NUM_|UNIVERSE|PREFIX|WORLD)|PRTE_MCA_(ess|prte_(hnp|ess|parent|launch)))'

# What the user sets, and what may keep MPI from starting.
own_settings() { compgen -e | grep -E '^((OMPI|PRTE|PMIX)_MCA|HWLOC)_|^LD_PRELOAD$' | tr '\n' ' ' || true; }

choose_allocation() {
  allocation=
  if [[ -n ${SLURM_JOB_ID:-${SLURM_JOBID:-}} ]]; then
    local job=${SLURM_JOB_ID:-$SLURM_JOBID} state='' why=
    if ! command -v srun >/dev/null || ! command -v scontrol >/dev/null; then
      why="this host has no Slurm"
    else
      state=$(timeout 20 squeue --noheader --jobs "$job" --format %T 2>&1 | tail -n 1 || true)
      if [[ $state != RUNNING ]]; then
        why="Slurm's job $job is not running${state:+ ($state)}"
      elif ! timeout 20 scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null | grep -qxF -e "$(uname -n)" -e "$(hostname -s)"; then
        why="this host is not one of Slurm's job $job"
      fi
    fi
    if [[ -n ${hostfile:-} && -z $why ]]; then why="a host file is given"; fi
    if [[ -n $why ]]; then forget_variables "$why" '^SLURM'; else allocation=slurm; fi
  else
    forget_variables "no job of Slurm is named" '^SLURM_(NODELIST|JOB_NODELIST|NNODES|TASKS_PER_NODE|NTASKS|JOB_NUM_NODES)'
  fi
  local name pattern
  for name in PBS_NODEFILE COBALT_NODEFILE LSB_DJOB_HOSTFILE PE_HOSTFILE; do
    pattern=^${name%%_*}_
    if [[ $name == PE_HOSTFILE ]]; then pattern="^$name$"; fi # SGE's; PE_ is also Cray's.
    compgen -e | grep -q "$pattern" || continue
    if [[ -n ${hostfile:-} ]]; then
      forget_variables "a host file is given" "$pattern"
    elif [[ ! -f ${!name:-} || ! -r ${!name} ]]; then
      forget_variables "$name names no file that can be read" "$pattern"
    elif ! grep -qiE "^$(uname -n | cut -d. -f1)([.[:blank:]]|$)" "${!name}"; then
      forget_variables "${!name}, which $name names, does not have this host" "$pattern"
    elif [[ -z $allocation ]]; then
      allocation=other
    fi
  done
}

# Why a folder does not suit; nothing where it does.
temporary_folder_fault() {
  local folder=$1 ranks=$2 room=4 files=$((50 + $2 * 10)) because=
  if ! shm_has_room "$ranks"; then
    room=$((room + ranks * 16))
    because=", which go there because /dev/shm has less than $((ranks * 32)) MiB"
  fi
  if [[ ! -d $folder || ! -w $folder || ! -x $folder ]]; then
    echo "is not a folder that can be written to"
  elif ((${#folder} > 60)); then
    echo "is too long for the names of sockets"
  elif [[ $folder == *[[:space:]]* ]]; then
    echo "has blanks in it"
  elif ! has_room "$folder" "$room" "$files"; then
    echo "has no room for $room MiB in $files files$because"
  fi
}

choose_temporary_folder() {
  local why why_not_tmp
  temporary_folder=${TMPDIR:-/tmp}
  if [[ $temporary_folder != /* ]]; then temporary_folder=$(readlink -f "$temporary_folder" || true); fi
  why=$(temporary_folder_fault "$temporary_folder" "$1")
  if [[ -n $why ]]; then
    why_not_tmp=$(temporary_folder_fault /tmp "$1")
    if [[ -n $why_not_tmp ]]; then
      faults+=("/tmp $why_not_tmp: set TMPDIR to a folder that suits${TMPDIR:+ (${TMPDIR} $why)}")
    else
      notes+=("/tmp is used: TMPDIR, $TMPDIR, $why")
    fi
    temporary_folder=/tmp
  fi
  export TMPDIR=$temporary_folder
}

# Open MPI does not start without one.
choose_home() {
  [[ -z ${HOME:-} ]] || return 0
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6 || true)
  if [[ ! -d $HOME ]]; then HOME=/tmp; fi
  export HOME
}

clean_openmp() {
  forget_variables "the threads of all ranks would be bound to the same cores" \
    '^(OMP_PROC_BIND|OMP_PLACES|GOMP_CPU_AFFINITY|OMP_THREAD_LIMIT|KMP_AFFINITY)$'
}

# raise_limit LETTER NEEDED WHAT [USED]
raise_limit() {
  local soft
  soft=$(ulimit -S "-$1")
  if [[ $soft == unlimited ]] || ((soft >= $2)) || ulimit -S "-$1" "$2" 2>/dev/null; then return; fi
  faults+=("the limit of $3 is $(ulimit -H "-$1") and $2 are needed${4:-}: raise it (ulimit -$1, the unit file of systemd, /etc/security/limits.conf)")
}

check_limits() {
  local ranks=$1 task used=0 most threads=$((48 + $1 * 16))
  raise_limit n $((64 + ranks * 16)) "open files"
  raise_limit f 262144 "a file's size in KiB"
  raise_limit v 2097152 "a process's address space in KiB"
  raise_limit d 2097152 "a process's data in KiB"
  most=$(smallest_limit pids pids.max)
  if [[ -n $most ]] && ((most < threads)); then
    faults+=("the control group allows $most processes and threads and $threads are needed: raise pids.max (docker run --pids-limit)")
  fi
  if ((EUID != 0)); then # The limit is one of all processes and threads of a user, and not of root's.
    for task in /proc/[0-9]*/task/*; do
      if [[ -O $task ]]; then used=$((used + 1)); fi
    done
    raise_limit u $((used + threads)) "processes and threads" ", $used of them for what runs already"
  fi
}

# An idle rank takes 100 MiB.
check_memory() {
  local ranks=$1 needed=$(($1 * 100))
  ((needed > $(memory_mib))) || return 0
  faults+=("-n $ranks asks for $ranks processes, which take $needed MiB before any job, and $(memory_mib) MiB are there: lower -n")
  return 1
}

# What the host has, or the control groups allow.
memory_mib() {
  local host_mib limit
  host_mib=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
  limit=$(smallest_limit memory memory.max memory.limit_in_bytes)
  if [[ -n $limit ]] && ((limit >> 20 < host_mib)); then echo $((limit >> 20)); else echo "$host_mib"; fi
}

check_loopback() {
  (exec 3<>/dev/udp/127.0.0.1/9) 2>/dev/null ||
    faults+=("127.0.0.1 cannot be reached: bring the loopback device up (ip link set lo up); IPv6 alone does not do")
}

runs_here() {
  local theirs ours
  theirs=$(od -An -tx1 -N 20 "$1" | tr -d ' \n')
  ours=$(od -An -tx1 -N 20 /proc/self/exe | tr -d ' \n')
  # "#!", or an ELF header with the same word size, byte order and machine.
  [[ $theirs == 2321* || ${theirs:0:12}${theirs:36} == "${ours:0:12}${ours:36}" ]]
}

# The folders of the control groups (version 2 or 1) that this process is in and of all around them.
control_group_folders() {
  local controllers path base
  while IFS=: read -r _ controllers path; do
    case ,$controllers, in
      ,,) base=/sys/fs/cgroup ;;
      *,$1,*) base=/sys/fs/cgroup/$1 ;;
      *) continue ;;
    esac
    while [[ -n ${path%/} ]]; do
      echo "$base$path"
      path=${path%/*}
    done
    echo "$base"
  done </proc/self/cgroup
}

# smallest_limit CONTROLLER FILE...: the smallest number in these files; nothing where none limits.
smallest_limit() {
  local folder file limit least=
  while read -r folder; do
    for file in "${@:2}"; do
      read -r limit 2>/dev/null <"$folder/$file" || continue
      if [[ $limit =~ ^[0-9]{1,18}$ ]] && ((limit < ${least:-limit + 1})); then least=$limit; fi
    done
  done < <(control_group_folders "$1")
  echo "$least"
}

# Affinity, and the control groups' quotas.
usable_processors() {
  local processors quota period folder
  processors=$(OMP_NUM_THREADS='' OMP_THREAD_LIMIT='' nproc)
  while read -r folder; do
    quota='' period=''
    if [[ -r $folder/cpu.max ]]; then
      read -r quota period <"$folder/cpu.max" || true
    elif [[ -r $folder/cpu.cfs_quota_us ]]; then
      quota=$(<"$folder/cpu.cfs_quota_us") period=$(<"$folder/cpu.cfs_period_us")
    fi
    if [[ $quota =~ ^[1-9][0-9]*$ && $period =~ ^[1-9][0-9]*$ ]] && ((quota / period < processors)); then
      processors=$((quota / period > 0 ? quota / period : 1))
    fi
  done < <(control_group_folders cpu)
  echo "$processors"
}
