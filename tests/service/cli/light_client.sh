#!/usr/bin/env bash
# The client is a laptop tool: it must need neither torch nor MPI.
set -euo pipefail
readonly program="$IMAGEDDPO_BIN_DIR/imageddpo"
libraries="$(ldd "$program")"
grep -q libgrpc <<<"$libraries" || { echo "ldd $program looks wrong: $libraries"; exit 1; }
if grep -E 'torch|libc10|libmpi|openmpi|cuda' <<<"$libraries"; then
  echo "$program needs the libraries above; the client links gRPC and common/config only"
  exit 1
fi
