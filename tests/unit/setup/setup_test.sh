#!/usr/bin/env bash
# deploy/setup.sh on made-up wheels from a local folder: it unpacks once, repairs what is gone, replaces
# another version, and leaves nothing half done after a wrong hash or a wheel that cannot be had.
set -euo pipefail
cd "${IMAGEDDPO_SOURCE_DIR:-$(dirname "${BASH_SOURCE[0]}")/../../..}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export IMAGEDDPO_THIRD_PARTY="$work/third_party" IMAGEDDPO_WHEELS="$work/wheels.txt"
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$work"

fail() {
  echo "FAILED: $*" >&2
  cat "$work/output" >&2
  exit 1
}

# make_wheel NAME VERSION FILE...: a wheel with these files; prints its SHA-256.
make_wheel() {
  /usr/bin/python3 - "$work" "$@" <<'PYTHON'
import hashlib, sys, zipfile
folder, name, version, *files = sys.argv[1:]
path = f"{folder}/{name}-{version}-py3-none-any.whl"
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(path, "w") as wheel:
    for file in files:
        wheel.writestr(file, version)
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")
print(hashlib.sha256(open(path, "rb").read()).hexdigest())
PYTHON
}

setup() { deploy/setup.sh "$@" >"$work/output" 2>&1; }
expect_output() { grep -q "$1" "$work/output" || fail "the output lacks '$1'"; }
expect_no_output() { [[ ! -s $work/output ]] || fail "there should have been no output"; }
lib="$IMAGEDDPO_THIRD_PARTY/tool/lib"

sha256="$(make_wheel tool 1.0 tool/lib/a.so tool/lib/old.so tool/data/big)"
echo "cpu tool==1.0 $sha256 tool/lib/*" >"$IMAGEDDPO_WHEELS"
setup || fail "the first call"
expect_output "fetching tool==1.0"
[[ -f $lib/a.so && -f $lib/old.so ]] || fail "the files are not there"
[[ ! -e $IMAGEDDPO_THIRD_PARTY/tool/data ]] || fail "more than the patterns was unpacked"

setup || fail "the second call"
expect_no_output

rm "$lib/a.so"
setup || fail "the call after a file was deleted"
[[ -f $lib/a.so ]] || fail "the deleted file did not come back"

rm "$IMAGEDDPO_THIRD_PARTY"/.stamps/* # as after a call that was interrupted while it unpacked
mkdir -p "$IMAGEDDPO_THIRD_PARTY/.unpack/wheel"
touch "$IMAGEDDPO_THIRD_PARTY/.unpack/wheel/tool-1.0-py3-none-any.whl"
setup || fail "the call after an interruption"
setup || fail "the call after the repair"
expect_no_output

sha256="$(make_wheel tool 2.0 tool/lib/a.so tool-2.0.data/data/bin/run)"
echo "cpu tool==2.0 $sha256 tool/lib/* tool-2.0.data/data/*" >"$IMAGEDDPO_WHEELS"
setup || fail "the call with a new version"
[[ $(<"$lib/a.so") == 2.0 ]] || fail "the new version's file is not there"
[[ ! -e $lib/old.so ]] || fail "the old version's file is still there"
[[ -f $IMAGEDDPO_THIRD_PARTY/tool/bin/run ]] || fail "the wheel's data folder was not unpacked"

make_wheel other 1.0 other/x >/dev/null
echo "cpu other==1.0 $(printf '0%.0s' {1..64}) other/*" >>"$IMAGEDDPO_WHEELS"
setup && fail "a wheel with a wrong hash was accepted"
expect_output "could not download other==1.0"
[[ ! -e $IMAGEDDPO_THIRD_PARTY/other ]] || fail "files of the refused wheel are there"

echo "cpu missing==1.0 $sha256 missing/*" >"$IMAGEDDPO_WHEELS"
setup && fail "a wheel that does not exist was accepted"
expect_output "could not download missing==1.0; check the network"

setup --unknown && fail "an unknown option was accepted"
expect_output "unknown option --unknown"

echo "cuda missing==1.0 $sha256 missing/*" >"$IMAGEDDPO_WHEELS"
setup || fail "a wheel of another group was fetched"
expect_no_output
# Systems. Only what is refused before anything is installed can be tried here.
system() { printf '%s\n' "$@" >"$work/os-release"; }
export IMAGEDDPO_OS_RELEASE="$work/os-release"
system 'PRETTY_NAME="Ubuntu 22.04.5 LTS"' ID=ubuntu VERSION_CODENAME=jammy UBUNTU_CODENAME=jammy
setup && fail "a system with an old gRPC was accepted"
expect_output "Ubuntu 22.04.5 LTS is too old: its gRPC 1.30"
system 'PRETTY_NAME="Linux Mint 22"' ID=linuxmint VERSION_CODENAME=wilma UBUNTU_CODENAME=noble
setup || fail "a system made from Ubuntu 24.04, with all packages there"
system 'PRETTY_NAME="Fedora Linux 44"' ID=fedora
setup --runtime && fail "run-time packages of an unknown system"
expect_output "not those of Fedora Linux 44"

# A system without dpkg: the commands and libraries that are missing are named; with all of them it goes on.
mkdir "$work/bin"
for command in bash sh env cat uname dirname mkdir flock sha256sum cut sed sort awk comm mktemp rm mv cp find ls \
  sync grep python3 unzip c++ cmake git curl pkg-config protoc; do
  ln -s "$(command -v "$command")" "$work/bin/$command"
done
without_dpkg() { PATH="$work/bin" setup; }
without_dpkg && fail "a system without Ninja and gRPC's plugin was accepted"
expect_output "Fedora Linux 44 has no Debian packages, and these are missing here; .*: ninja, grpc_cpp_plugin\\.$"
ln -s "$(command -v ninja)" "$(command -v grpc_cpp_plugin)" "$work/bin/"
without_dpkg || fail "a system without dpkg that has all tools"
rm "$work/bin/pkg-config"
printf "#!/bin/sh\n[ \"\$2\" != libutf8proc ]\n" >"$work/bin/pkg-config"
chmod +x "$work/bin/pkg-config"
without_dpkg && fail "a system without utf8proc was accepted"
expect_output ": libutf8proc (development files)\\.$"
unset IMAGEDDPO_OS_RELEASE

# Compilers at once: at least one, at most one for each processor.
jobs="$(deploy/build-jobs.sh)"
((jobs >= 1 && jobs <= $(nproc))) || fail "build-jobs.sh printed $jobs"
[[ $(taskset -c "$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')" deploy/build-jobs.sh) == 1 ]] || fail "build-jobs.sh beside one processor"

echo "setup_test: passed"
