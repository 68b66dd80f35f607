#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What pretraining and thawing are worth on real photographs: 500 flowers to train on, 300
# to validate, at 32 pixels, resnet20, five seeds. Best validation top-1 of each run, and
# the differences to the same recipe from random weights.
# Usage: sh tests/peers/accuracy.sh THAW ASSETS
set -eu
thaw=$1 assets=$2
weights=$assets/weights/cifar10-resnet20-12fca82f.th
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar xzf "$assets/data/flowers-5class-800.tar.gz" -C "$work"

# run NAME SEED OPTIONS...: prints the best top-1
run() {
    name=$1 seed=$2
    shift 2
    "$thaw" train "$work/flowers" -o "$work/$name$seed" --image-size 32 --batch 32 \
        --seed "$seed" --quiet "$@" >/dev/null
    sed -n 's/.*"best_top1":\([0-9.]*\).*/\1/p' "$work/$name$seed/metrics.jsonl"
}
head="--epochs 30 --lr 0.05 --augment none --thaw head"
all="--epochs 15 --lr 0.02 --augment basic"
random="--weights random --backbone resnet20"
echo "seed head timetable random-head random-all"
for seed in 0 1 2 3 4; do
    # shellcheck disable=SC2086 # lists of options
    echo "$seed $(run h $seed --weights "$weights" $head)" \
        "$(run t $seed --weights "$weights" $all --thaw "0:head 3:stage3,head 6:all")" \
        "$(run q $seed $random $head --bn frozen) $(run r $seed $random $all --thaw all --bn train)"
done | tee "$work/table"
awk '{ n++; h += $2; t += $3; q += $4; r += $5; dh += $2 - $4; dt += $3 - $5
       sh += ($2 - $4) ^ 2; st += ($3 - $5) ^ 2 }
     function se(sum, squares) { return sqrt((squares - sum * sum / n) / (n - 1) / n) }
     END { printf "mean %.4f %.4f %.4f %.4f\n", h / n, t / n, q / n, r / n
           printf "head over random-head %+.4f (standard error %.4f)\n", dh / n, se(dh, sh)
           printf "timetable over random-all %+.4f (%.4f)\n", dt / n, se(dt, st) }' "$work/table"
