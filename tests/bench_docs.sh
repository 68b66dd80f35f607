#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the tables of docs/bench.md: no test, it takes some twenty minutes on two quiet cores and
# goes on where it was when it is called again.
# Usage: tests/bench_docs.sh BUILD_DIR OUT FLOWERS CIFAR [PUBLISHED]
#   FLOWERS    the folder `flowers` of the five-class set (train/, val/)
#   CIFAR      the 10,000 test images of CIFAR-10 as JPEGs, CLASS/*.jpg: the first 500 of a class
#              are taken. Not training images: the network in examples/weights has seen those.
#   PUBLISHED  resnet20-12fca82f.th, trained on pixels without JPEG's loss; left out if not given
set -eu
thaw=$(cd "$1" && pwd)/thaw out=$2 flowers=$3 cifar=$(cd "$4" && pwd) published=${5:-}
ours=$(cd "$(dirname "$0")/.." && pwd)/examples/weights/resnet20-cifar10.h5

if [ ! -d "$out/cifar500" ]; then
    mkdir -p "$out/cifar500.part"
    for class in "$cifar"/*/; do
        name=$(basename "$class")
        mkdir -p "$out/cifar500.part/$name"
        find "$class" -name '*.jpg' | LC_ALL=C sort | head -n 500 |
            while read -r image; do ln -sf "$image" "$out/cifar500.part/$name/"; done
    done
    mv "$out/cifar500.part" "$out/cifar500"
fi
bench() { # NAME DATA options...
    name=$1 data=$2
    shift 2
    echo "== $name: thaw bench $data $*"
    "$thaw" bench "$data" -o "$out/$name" --epochs 5 --seeds 3 "$@"
}
bench flowers "$flowers" --weights "$ours"
bench cifar "$out/cifar500" --weights "$ours" --pad 4
[ -z "$published" ] || bench cifar-published "$out/cifar500" --weights "$published" --image-size 32 --crop 1 --pad 4
