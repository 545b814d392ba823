#!/usr/bin/env bash
# live_models.sh PYTHON TESTS_DIR: records fresh models with the given Python and holds ours against them.
set -euo pipefail
python=$1 tests=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$here/record_models.py" fresh "$work/models" --seed "${SEED:-1}"
IMAGEDDPO_PARITY_MODELS="$work/models" "$tests/parity_models"
"$python" "$here/record_models.py" plain "$work/plain" --seed "${SEED:-1}"
for name in sd1 sd2; do
  "$python" "$here/record_lora_files.py" "$work/plain/$name" "$work/lora-$name" --seed "${SEED:-1}"
  IMAGEDDPO_PARITY_LORA_FILES="$work/lora-$name" IMAGEDDPO_PARITY_LORA_MODEL="$work/plain/$name" "$tests/parity_lora_files"
  "$python" "$here/live_lora.py" "$work/plain/$name" "$tests/parity_live_lora"
done
