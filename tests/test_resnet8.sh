#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The real Keras ResNet-8 of MLPerf Tiny (THAW_TEST_ASSETS): logits of 20 images within 1e-4 of
# the reference in float64, 75.48 % of the 10,000 CIFAR-10 test images as JPEGs, and the
# same logits after a round trip through each format that is written.
set -eu
thaw=$1/thaw
if [ -z "${THAW_TEST_ASSETS:-}" ]; then
    echo "skipped: THAW_TEST_ASSETS does not name the folder of real weights"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$THAW_TEST_ASSETS/weights/mlperf-tiny-resnet8-cifar10.keras.h5
tar xzf "$THAW_TEST_ASSETS/data/cifar10-lossless-train4000-png.tar.gz" -C "$work"
grep '^mlperf-tiny-resnet8' "$THAW_TEST_ASSETS/reference/cifar10-logits.csv" >"$work/want"
cut -d, -f2 "$work/want" | sed "s|^|$work/cifar10-lossless/|" >"$work/files"
[ "$(wc -l <"$work/files")" = 20 ]

check() {
    xargs "$thaw" predict "$1" --json --quiet <"$work/files" | sed 's/.*"logits":\[//; s/\].*//' >"$work/have"
    paste -d, "$work/have" "$work/want" | awk -F, -v name="$1" '
        { for (i = 1; i <= 10; i++) { d = $i - $(12 + i); d = d < 0 ? -d : d; if (d > worst) worst = d } }
        END {
            printf "%s: %d images, logits within %g\n", name, NR, worst
            exit !(NR == 20 && worst < 1e-4)
        }'
}
check "$model"
for out in "$work/resnet8.h5" "$work/resnet8.safetensors"; do
    "$thaw" convert "$model" "$out"
    check "$out"
done

tar xzf "$THAW_TEST_ASSETS/data/cifar10-jpeg-test.tar.gz" -C "$work"
"$thaw" eval "$model" "$work/test" --json --quiet >"$work/eval"
grep -q '"images":10000' "$work/eval"
grep -q '"top1":0.7548[,}]' "$work/eval" || { cat "$work/eval"; exit 1; }
