#!/usr/bin/env bash
# A word now and then from what takes long. Sourced for with_word, by a script that has a say() of its own; or called:
#
#   deploy/progress.sh WHAT COMMAND...

# with_word WHAT COMMAND...: runs the command; every 20 (PROGRESS_SECONDS) seconds says that it is
# still at it. Returns the command's exit status.
with_word() {
  local what="$1" started=$SECONDS code=0 word
  shift
  # Ends with this shell, however that ends: nobody is left then who could write to it.
  exec 8> >(while read -r -t "${PROGRESS_SECONDS:-20}" _ || (($? > 128)); do say "still $what ($((SECONDS - started)) s)"; done)
  word=$!
  "$@" 8>&- || code=$?
  exec 8>&-
  wait "$word" || true
  return "$code"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  # On a terminal below the line that ninja keeps changing, which has no end yet.
  say() {
    if [[ -t 1 ]]; then echo; fi
    echo "$*"
  }
  with_word "$@"
fi
