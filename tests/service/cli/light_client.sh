#!/usr/bin/env bash
# The client must run on a laptop: it may need neither libtorch nor MPI.
set -euo pipefail
readonly program="$IMAGEDDPO_BIN_DIR/imageddpo"
libraries="$(ldd "$program")"
grep -q libgrpc <<<"$libraries" || { echo "ldd $program looks wrong: $libraries"; exit 1; }
if grep -E 'torch|libc10|libmpi|openmpi|cuda' <<<"$libraries"; then
  echo "$program needs the libraries above; the client links gRPC and common/config only"
  exit 1
fi
