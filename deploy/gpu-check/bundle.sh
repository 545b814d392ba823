#!/usr/bin/env bash
# Builds gpu_check, nccl_check and jobs_check in the CUDA configuration and packs out/gpu-check-bundle.tar.gz for a
# machine with a GPU; README.md says what to do with it.   deploy/gpu-check/bundle.sh [options of the build]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly limit_bytes=$((64 * 1000 * 1000))
readonly folder=out/gpu-check-bundle

deploy/setup.sh --cuda
cmake --preset cuda --log-level=NOTICE
cmake --build build-cuda --target gpu_check nccl_check jobs_check "$@"
mkdir -p out
rm -rf "$folder"
DESTDIR='' cmake --install build-cuda --component gpu-check --prefix "$PWD/$folder" --strip >out/gpu-check-install.log
tar -czf "$folder.tar.gz" -C out gpu-check-bundle
bytes="$(du -sb --apparent-size "$folder" | cut -f1)"
echo "$folder.tar.gz: $(stat -c %s "$folder.tar.gz") bytes, unpacked $bytes"
if ((bytes > limit_bytes)); then
  echo "the bundle is larger than $limit_bytes bytes" >&2
  exit 1
fi
