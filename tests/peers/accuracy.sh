#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What pretraining and thawing are worth with the weights in examples/weights (resnet20,
# CIFAR-10), at 32 pixels, over five seeds, pretrained against random weights:
#   flowers   500 photographs of five flowers, 300 others to judge by
#   clothes   Fashion-MNIST, 300 images of each of ten classes, 2,000 others to judge by
# Judged is the last epoch, so that nothing is chosen by the images that judge. Random
# weights get BatchNorm statistics of the batch where their stages are frozen; with the
# initial ones, 0 and 1, they would do worse.
# Usage: sh tests/peers/accuracy.sh THAW ASSETS [options for every run]
set -eu
thaw=$1 assets=$2
shift 2
weights=$(dirname "$0")/../../examples/weights/resnet20-cifar10.h5
clothes=/usr/share/datasets/fashion-mnist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar xzf "$assets/data/flowers-5class-800.tar.gz" -C "$work"
"$thaw" convert "idx:$clothes" "$work/clothes" --per-class 300 --quiet
rm -f "$work"/clothes/test/*/002??.png

# accuracy DATA WHAT FROM SEED OPTIONS...: appends "DATA WHAT FROM SEED top-1" to the table.
accuracy() {
    data=$1 what=$2 from=$3 seed=$4
    shift 4
    rm -rf "$work/run"
    "$thaw" train "$work/$data" -o "$work/run" --image-size 32 --crop 1 --batch 32 \
        --seed "$seed" --quiet "$@" >/dev/null
    key=val_top1 && [ "$data" = flowers ] || key=test_top1
    top1=$(sed -n "s/.*\"$key\":\([0-9.]*\).*/\1/p" "$work/run/metrics.jsonl" | tail -n 1)
    echo "$data $what $from $seed $top1" | tee -a "$work/table"
}

for seed in 0 1 2 3 4; do
    for data in flowers clothes; do
        recipe="--val 0 --augment none --epochs 5 --lr 0.05"
        [ "$data" = clothes ] || recipe="--augment basic --scale 0.3 --epochs 15 --lr 0.02"
        for from in pretrained random; do
            source="--weights $weights" still=frozen
            [ $from = pretrained ] || source="--weights random --backbone resnet20" still=stats
            # shellcheck disable=SC2086 # lists of options
            {
                accuracy $data head $from $seed $source $recipe --thaw head --bn $still "$@"
                accuracy $data stage3,head $from $seed $source $recipe --thaw stage3,head \
                    --bn "stem-stage2:$still stage3:train" "$@"
                accuracy $data all $from $seed $source $recipe --thaw all --bn train "$@"
            }
        done
    done
done

echo "| data | trains | pretrained | random | difference (standard error) |"
echo "|---|---|---|---|---|"
awk '
function mean(x,  s, i) { for (i = 0; i < n; i++) s += x[i]; return s / n }
{ top1[$1 " " $2, $3, $4] = 100 * $5; if (!($1 " " $2 in seen)) { seen[$1 " " $2]; row[rows++] = $1 " " $2 } }
END {
    n = 5
    for (r = 0; r < rows; r++) {
        split(row[r], name, " ")
        for (i = 0; i < n; i++) {
            a[i] = top1[row[r], "pretrained", i]; b[i] = top1[row[r], "random", i]
            d[i] = a[i] - b[i]
        }
        m = mean(d); s = 0
        for (i = 0; i < n; i++) s += (d[i] - m) ^ 2
        printf "| %s | %s | %.1f %% | %.1f %% | %+.1f (%.1f) |\n", name[1], name[2],
            mean(a), mean(b), m, sqrt(s / (n - 1) / n)
    }
}' "$work/table"
