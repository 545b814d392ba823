#!/usr/bin/env bash
# Prints how many compilers may run at once: one for each processor that may be used, but no more than the memory
# holds. The largest translation units take 1.1 GB.
set -euo pipefail

readonly compiler_kb=1300000

processors="$(nproc)"
memory_kb="$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)"
for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [[ -r $limit ]] && read -r bytes <"$limit" && [[ $bytes =~ ^[0-9]{1,15}$ ]] || continue
  if ((bytes / 1024 < memory_kb)); then memory_kb=$((bytes / 1024)); fi
done
jobs=$((memory_kb / compiler_kb))
if ((jobs > processors)); then jobs=$processors; fi
echo $((jobs > 1 ? jobs : 1))
