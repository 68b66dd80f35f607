#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a clone to a fine-tuned model: installs what is missing, builds, writes Debian's
# Fashion-MNIST out as a folder of PNGs, fine-tunes the ResNet-20 in examples/weights on it
# by a timetable, and beside it the same network from random weights; predicts. Can be run
# again; writes nothing but build/ and, for packages, what apt-get installs.
# Usage: sh tools/demo.sh [--quick] [--no-install]
set -eu
cd "$(dirname "$0")/.."
per_class=300 epochs=5 timetable="0:head 1:stage3,head 2:all"
for option; do
    case $option in
    --quick) per_class=60 epochs=3 ;;
    --no-install) THAW_NO_INSTALL=1 && export THAW_NO_INSTALL ;;
    *) echo "usage: sh tools/demo.sh [--quick] [--no-install]" >&2 && exit 2 ;;
    esac
done
source=/usr/share/datasets/fashion-mnist
sh tools/deps.sh dataset-fashion-mnist
if ! [ -d "$source" ]; then
    echo "demo: $source is not here (Debian's package dataset-fashion-mnist)" >&2
    exit 2
fi

say() {
    echo "\$ $*"
    "$@"
}
# The accuracy on the test images, which chose nothing, as metrics.jsonl has it.
test_top1() {
    sed -n 's/.*"test_top1":\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1
}

cmake -S . -B build >/dev/null
cmake --build build -j "$(nproc)" --target thaw_program
work=build/demo
rm -rf "$work"
mkdir -p "$work"
say build/thaw convert "idx:$source" "$work/clothes" --per-class "$per_class"
rm -f "$work"/clothes/test/*/002??.png # 200 a class are enough to test on

recipe="--val 0 --augment none --epochs $epochs --optimizer adamw --lr 0.003 --image-size 32"
echo
echo "# A network that knows ten kinds of animals and vehicles learns ten kinds of clothes."
# shellcheck disable=SC2086 # a list of options
say build/thaw train "$work/clothes" -o "$work/run" --weights examples/weights/resnet20-cifar10.h5 \
    $recipe --thaw "$timetable"
echo
echo "# The same network and recipe from random weights; all of it trains from the start."
# shellcheck disable=SC2086
say build/thaw train "$work/clothes" -o "$work/random" --weights random --backbone resnet20 \
    $recipe --crop 1 --thaw all
echo
for class in "$work"/clothes/test/*/; do
    set -- "$@" "${class}00000.png"
done
while [ $# -gt 0 ] && [ "${1#--}" != "$1" ]; do shift; done # the options of this script
say build/thaw predict "$work/run" "$@"

echo
echo "On $(find "$work/clothes/test" -name '*.png' | wc -l) test images, after $epochs epochs on $((10 * per_class)) others:"
awk -v a="$(test_top1 "$work/run")" -v b="$(test_top1 "$work/random")" 'BEGIN {
    printf "  pretrained on CIFAR-10, thawed by timetable  %.1f %%\n", 100 * a
    printf "  random weights, everything trained           %.1f %%\n", 100 * b }'
echo "Your own photographs: one folder for each class in FOLDER, weights from docs/weights.md:"
echo "  build/thaw train FOLDER -o run --weights resnet18-f37072fd.pth"
echo "  build/thaw predict run photo.jpg"
