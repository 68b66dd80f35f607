#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a clone to a trained model: installs what is missing, builds, writes Debian's
# Fashion-MNIST out as a folder of PNGs, trains a small ResNet on it from random weights,
# evaluates and predicts. Can be run again; writes nothing but build/ and, for packages,
# what apt-get installs.
# Usage: sh tools/demo.sh [--quick] [--no-install]
set -eu
cd "$(dirname "$0")/.."
per_class=300 epochs=5
for option; do
    case $option in
    --quick) per_class=60 epochs=2 ;;
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

cmake -S . -B build >/dev/null
cmake --build build -j "$(nproc)" --target thaw_program
work=build/demo
rm -rf "$work"
mkdir -p "$work"
say build/thaw convert "idx:$source" "$work/clothes" --per-class "$per_class"
say build/thaw train "$work/clothes" -o "$work/run" --weights random --backbone resnet20 \
    --image-size 32 --crop 1.0 --augment none --thaw all --bn train --optimizer adamw --lr 0.003 \
    --batch 16 --epochs "$epochs"
say build/thaw eval "$work/run" "$work/clothes" --split test
for class in "$work"/clothes/test/*/; do
    set -- "$@" "${class}00000.png"
done
while [ $# -gt 0 ] && [ "${1#--}" != "$1" ]; do shift; done # the options of this script
say build/thaw predict "$work/run" "$@"
echo "Your own photographs: build/thaw train FOLDER -o run --weights FILE (docs/weights.md)"
