#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Inputs that are not square, from outside: trained, resumed, judged, converted, cached; what
# files and --json say of them; sizes that make no sense.
# Usage: test_rect_cli.sh BUILD_DIR
. "$(dirname "$0")/cli.sh"

"$build/make_images" images 3 10 20 || exit 1
common="--weights random --thaw all --batch 6 --threads 2 --workers 2"
net="--backbone resnet20 $common"

expect 0 "a classifier trains" train images -o run $net --image-size 24x16 --epochs 2 \
    --augment strong --mixup 0.2 --cutmix 1
says "24 x 16, crop"
grep -q '"image-size": "24x16"' run/config.json || fail "config.json says 24x16"
expect 0 "and again from its config" train images -o again --config run/config.json
check "the same run has the same bits" cmp -s run/last.h5 again/last.h5
expect 0 "one epoch" train images -o part $net --image-size 24x16 --epochs 1 \
    --augment strong --mixup 0.2 --cutmix 1 --lr-schedule constant
expect 0 "two at once" train images -o both $net --image-size 24x16 --epochs 2 \
    --augment strong --mixup 0.2 --cutmix 1 --lr-schedule constant
expect 0 "resumed" resume part --epochs 2
check "a resumed run has the bits of one that was not interrupted" cmp -s part/last.h5 both/last.h5
expect 0 "it is judged" eval run images
expect 0 "it predicts" predict run images/class_0/000.ppm --json
cp out wide
expect 0 "in another shape" predict run images/class_0/000.ppm --json --image-size 16x24
cmp -s out wide && fail "16x24 is not 24x16"
expect 0 "what it is" inspect run --json
prints '"image_size":"24x16"'
expect 0 "a square one" train images -o square $net --image-size 24x24 --epochs 1
grep -q '"image-size": "24"' square/config.json || fail "config.json says 24 of a square"
expect 0 "its size" inspect square --json
prints '"image_size":24,'
expect 0 "an ONNX file" convert run run.onnx
LC_ALL=C grep -aq "input_size..\[24,16\]" run.onnx || fail "the ONNX file is not of 24x16"
expect 0 "a timing table" tune --backbone resnet20 --image-size 16x8 --batch 1 --threads 1 \
    -o table.json
grep -q '"image_size": *"16x8"' table.json || fail "the table says 16x8"

# Positions follow the sides: as many patches, on another grid.
vit="--backbone vit_micro_patch4_32 $common"
expect 0 "a ViT trains" train images -o vit $vit --image-size 24x16 --epochs 1
expect 0 "it predicts" predict vit images/class_0/000.ppm --json
cp out first
expect 0 "through safetensors" convert vit/last.h5 vit.safetensors
expect 0 "too" predict vit.safetensors images/class_0/000.ppm --json
check "what goes through safetensors says the same" cmp -s out first
expect 0 "the other way" train images -o turned --weights vit/last.h5 --keep-head \
    --image-size 16x24 --batch 6 --epochs 1 --threads 2
says "resampled: pos_embed from [1,25,128] to [1,25,128]"
expect 0 "its own way" train images -o kept --weights vit/last.h5 --keep-head --batch 6 \
    --epochs 1 --threads 2
grep -q resampled err && fail "positions of the same grid are taken as they are"
expect 2 "not at one that patches do not fill" predict vit images/class_0/000.ppm \
    --image-size 24x18
says "24 x 18, 18 pixels do not divide into patches of 4"

# What is kept below the cut is of one shape.
kept=
for size in 24x16 16x24 24x16; do
    expect 0 "a cache at $size" train images -o "at_$size" --backbone resnet20 --weights \
        run/last.h5 --thaw head --batch 6 --threads 2 --epochs 1 --augment none --cache-dir \
        cache --cache disk --image-size $size
    rm -r "at_$size"
    kept="$kept $(ls cache | wc -l)"
done
set -- $kept
[ "$2" -eq $((2 * $1)) ] && [ "$3" -eq "$2" ] || fail "caches by shape: $kept files"

expect 2 "no size" train images -o no $net --image-size 24x
says "'24x' is not a size: give pixels on a side, as 320, or width x height, as 320x240"
expect 2 "too small" train images -o no $net --image-size 24x4
says "24x4 is outside 8 to 4096 on a side"
[ -e no ] && fail "nothing is left of what is refused"

finish
