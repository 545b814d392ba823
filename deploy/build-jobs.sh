#!/usr/bin/env bash
# Prints how many compilers may run at once: one for each processor that may be used, but no more than the memory
# holds. The largest translation units take 1.1 GB.
set -euo pipefail
# shellcheck source=deploy/surroundings.sh
. "$(dirname "${BASH_SOURCE[0]}")/surroundings.sh"

readonly compiler_mib=1270

processors="$(usable_processors)"
free_mib="$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)"
limit_mib="$(memory_mib)"
jobs=$(((free_mib < limit_mib ? free_mib : limit_mib) / compiler_mib))
if ((jobs > processors)); then jobs=$processors; fi
echo $((jobs > 1 ? jobs : 1))
