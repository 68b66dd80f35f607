#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A long run of tiny steps, watched from outside: resident size, descriptors and threads
# have to be flat once every phase of the timetable has been seen. The run validates, keeps
# averages, and plans anew every EPOCHS / 10 epochs.
# Usage: soak.sh BUILD_DIR [EPOCHS [STEPS_PER_EPOCH [KB]]]   (50 epochs of 40 steps: 2,000; 1,024 KB
# are what the heap's ups and downs may add)
set -u
build=$(cd "$1" && pwd)
epochs=${2:-50} steps=${3:-40} slack=${4:-1024}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_WAIT_POLICY=passive

# 4 images a step; a quarter more for validation.
"$build/make_images" images 4 $((steps + steps / 4)) 8 || exit 1
timetable=
for i in 0 1 2 3 4 5 6 7 8 9; do # all of them within the first three tenths
    case $((i % 3)) in
    0) spec=all ;;
    1) spec=head ;;
    2) spec=stage3,head ;;
    esac
    timetable="$timetable $((i * epochs / 10)):$spec"
done
"$build/thaw" train images -o run --weights random --backbone resnet20 --image-size 8 --batch 4 \
    --threads 2 --workers 2 --ema 0.9 --bn train --lr 0.001 --log-every 1 --val 0.2 \
    --epochs "$epochs" --thaw "${timetable# }" >out 2>err </dev/null &
pid=$!

# seconds, resident KB, descriptors, threads
while [ -r "/proc/$pid/status" ]; do
    size= threads=
    while read -r key value _; do
        case $key in
        VmRSS:) size=$value ;;
        Threads:) threads=$value ;;
        esac
    done <"/proc/$pid/status" 2>/dev/null
    [ -n "$size" ] || break # it has ended
    set -- "/proc/$pid/fd/"*
    lines=$(grep -c '"event":"epoch"' run/metrics.jsonl 2>/dev/null)
    echo "$(date +%s.%N) $size $# $threads ${lines:-0}"
    sleep 0.05
done >samples
code=0
wait "$pid" || code=$?
if [ "$code" -ne 0 ]; then
    cat err
    exit 1
fi

# From 3/10 of the epochs on, each half has every kind of phase. Sizes go up and down with the
# phases and with what a sample happens to meet, so the least of each half are compared.
awk -v from=$((epochs * 3 / 10)) -v epochs="$epochs" -v slack="$slack" '
    $5 < from { next }
    {
        half = $5 < from + (epochs - from) / 2 ? 0 : 1
        if (n == 0) begin = $1
        n++; end = $1 - begin
        if (!low[half] || $2 < low[half]) low[half] = $2
        if ($2 > high) high = $2
        if ($3 > fds[half]) fds[half] = $3
        if ($4 > threads[half]) threads[half] = $4
    }
    END {
        if (n < 10 || !low[0] || !low[1]) { print "only " n " samples: too short a run"; exit 1 }
        printf "%d samples in %.1f s: resident %d KB at least, then %d, %d at most;", n, end, low[0], low[1], high
        printf " descriptors at most %d, then %d; threads %d, then %d\n", fds[0], fds[1], threads[0], threads[1]
        # a descriptor more: one of a save or of an image, met by chance
        exit low[1] - low[0] > slack || fds[1] > fds[0] + 2 || threads[1] > threads[0]
    }' samples
