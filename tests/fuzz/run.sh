#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fuzzes targets, one after another: tests/fuzz/run.sh BUILD SECONDS [TARGET ...]
# BUILD was configured with -DTHAW_FUZZ=ON and clang. New inputs go to BUILD/fuzz/TARGET,
# findings to BUILD/fuzz/crash-..., what was run to BUILD/fuzz/TARGET.log.
set -eu
[ $# -ge 2 ] || { sed -n '3,5s/^# //p' "$0"; exit 2; }
source=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
seconds=$2
shift 2
[ $# -gt 0 ] || set -- $(cd "$source" && ls fuzz_*.c | sed 's/^fuzz_\(.*\)\.c$/\1/')
mkdir -p "$build/fuzz"
cd "$build/fuzz"
# An allocation of more than 64 MiB fails, as on a full machine: that path is tested too.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=64:quarantine_size_mb=16
export UBSAN_OPTIONS=print_stacktrace=1
failed=0
for target; do
    mkdir -p "$target"
    golden=
    case $target in
    jpeg | png | pnm | stb | webp) golden=$source/../golden/images ;;
    pth | zip | pickle | hdf5 | safetensors | npz) golden=$source/../golden/weights ;;
    esac
    "$build/fuzz_$target" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=30 \
        -print_final_stats=1 "$target" "$source/corpus/$target" $golden \
        >"$target.log" 2>&1 || failed=1
    sed -n '/SUMMARY/p' "$target.log"
    awk -v t="$target" '/number_of_executed_units/ { n = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") c = $(i + 1) }
        END { print t ": " n " executions, " c " edges" }' "$target.log"
done
exit $failed
