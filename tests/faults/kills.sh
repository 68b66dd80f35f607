#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Kills training at random moments, N times in all, and goes on until runs are done; each
# finished run has to have the bits of one that was left alone: last.h5 and best.h5 byte
# for byte, metrics.jsonl but for time and memory.  Usage: kills.sh BUILD_DIR N [SEED]
set -u
build=$(cd "$1" && pwd)
kills=$2 seed=${3:-1}
thaw=$build/thaw
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_WAIT_POLICY=passive

"$build/make_images" images 3 20 8 || exit 1
recipe="--weights random --backbone resnet20 --image-size 8 --batch 4 --threads 1 --workers 2
    --log-every 1 --epochs 6 --ema 0.9 --bn train"
timetable="0:head 2:stage3,head 4:all"
plain_metrics() { # without what depends on the clock
    sed -E 's/,"(images_per_s|(forecast_)?(seconds|peak_bytes))":[^,}]*//g' "$1/metrics.jsonl"
}
begin() { # RUN
    # shellcheck disable=SC2086 # a list of words
    "$thaw" train images -o "$1" $recipe --thaw "$timetable" >out 2>err </dev/null
}
now() {
    echo $(($(date +%s%N) / 1000000)) # ms
}

start=$(now)
begin whole || { cat err && exit 1; }
length=$(($(now) - start))
plain_metrics whole >whole_metrics

n_killed=0 n_runs=0
while [ "$n_killed" -lt "$kills" ]; do
    run=run_$n_runs done=
    while [ -z "$done" ]; do
        # From the start of the process to a little after the end of the whole run.
        seed=$(((seed * 1103515245 + 12345) % 2147483648))
        wait_ms=$((seed / 65536 * (length + length / 10) / 32768))
        if [ "$n_killed" -ge "$kills" ]; then
            wait_ms=60000 # the last runs to its end
        fi
        if [ -e "$run/config.json" ]; then
            "$thaw" resume "$run" >out 2>err </dev/null &
        else
            # shellcheck disable=SC2086 # a list of words
            "$thaw" train images -o "$run" $recipe --thaw "$timetable" >out 2>err </dev/null &
        fi
        pid=$!
        end=$(($(now) + wait_ms))
        while kill -0 "$pid" 2>/dev/null && [ "$(now)" -lt "$end" ]; do
            sleep 0.005
        done
        kill -9 "$pid" 2>/dev/null
        code=0
        wait "$pid" 2>/dev/null || code=$?
        case $code in
        0) done=yes ;;
        137) n_killed=$((n_killed + 1)) ;;
        *) echo "$run: exit code $code" && cat err && exit 1 ;;
        esac
    done
    plain_metrics "$run" >metrics
    for pair in "$run/last.h5 whole/last.h5" "$run/best.h5 whole/best.h5" "metrics whole_metrics"; do
        # shellcheck disable=SC2086 # two words
        cmp $pair || exit 1
    done
    if find "$run" -name '*.tmp.*' -o -name '*.damaged' | grep .; then
        echo "$run: the above was left behind"
        exit 1
    fi
    rm -rf "$run"
    n_runs=$((n_runs + 1))
done
echo "$n_killed kills, $n_runs runs finished, all equal to the one that was left alone"
