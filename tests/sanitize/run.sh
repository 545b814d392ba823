#!/usr/bin/env bash
# make sanitize: the tests of the labels unit, dist and service under the sanitizers for addresses and undefined behaviour
# (preset asan) and for threads (preset tsan). SANITIZERS="asan" chooses one, SANITIZE_TESTS=REGEX some tests. Hours on two
# cores, since everything is built anew for each. Writes out/sanitize-asan.txt and out/sanitize-tsan.txt: ctest's results.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p out
here=$PWD/tests/sanitize

# A report ends the process, so that its test fails.
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$here/leaks.supp:print_suppressions=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# second_deadlock_stack: a report of two locks taken in both orders says where each was taken.
export TSAN_OPTIONS=suppressions=$here/races.supp:halt_on_error=1:second_deadlock_stack=1:ignore_noninstrumented_modules=1

failed=0
for preset in ${SANITIZERS:-asan tsan}; do
  cmake --preset "$preset" --log-level=NOTICE &&
    deploy/progress.sh building cmake --build "build-$preset" -j "$(deploy/build-jobs.sh)" || exit 1
  environment=()
  if [[ $preset == tsan ]]; then environment=("LD_PRELOAD=$PWD/build-tsan/tests/libabsl_mutex.so"); fi
  env "${environment[@]}" ctest --test-dir "build-$preset" -j "$(nproc)" -L '^(unit|dist|service)$' -R "${SANITIZE_TESTS:-.}" \
    --output-on-failure --no-tests=error --output-log "out/sanitize-$preset.txt" || failed=1
done
exit "$failed"
