#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A small Vision Transformer from outside: trained, used at another image size, taken up
# again, converted; with stochastic depth, the same bits once more.
# Usage: test_vit_cli.sh BUILD_DIR
. "$(dirname "$0")/cli.sh"

"$build/make_images" images 3 10 16 || exit 1
small="--image-size 16 --batch 6 --crop 1.0 --threads 2"
fresh="--backbone vit_micro_patch4_32 --weights random --thaw all --optimizer adamw $small"

expect 0 "a ViT trains" train images -o run $fresh --lr 0.001 --epochs 2 --drop-path 0.2 \
    --dropout 0.1
says "all trains, 1,198,851 of 1.2 M values; BatchNorm none"
expect 0 "and trains the same again" train images -o again $fresh --lr 0.001 --epochs 2 \
    --drop-path 0.2 --dropout 0.1
check "stochastic depth draws by seed" cmp -s run/last.h5 again/last.h5
expect 0 "other draws give another model" train images -o other $fresh --lr 0.001 \
    --epochs 2 --drop-path 0.3 --dropout 0.1
cmp -s run/last.h5 other/last.h5 && fail "--drop-path changes nothing"

expect 0 "it is evaluated" eval run images $small --json
cp out at16
expect 0 "and resumed" resume run --epochs +1
expect 0 "it predicts at its size" predict run images/class_0/000.ppm --json
expect 0 "and at another, with positions resampled" predict run images/class_0/000.ppm \
    --json --image-size 24
expect 2 "not at one that patches do not fill" predict run images/class_0/000.ppm \
    --image-size 18
says "--image-size 16 or 20"

expect 0 "it is fine-tuned at another size" train images -o larger --weights run/last.h5 \
    --image-size 24 --batch 6 --epochs 1 --thaw block5,norm,head --keep-head
says "resampled: pos_embed from [1,17,128] to [1,37,128]"
grep -q "^frozen .*64 tensors, verified unchanged" out || fail "frozen tensors are verified"
expect 0 "the new file holds the new positions" predict larger/last.h5 \
    images/class_0/000.ppm --json
cp out first
expect 0 "through safetensors too" convert larger/last.h5 larger.safetensors
expect 0 "it predicts" predict larger.safetensors images/class_0/000.ppm --json
check "what goes through safetensors says the same" cmp -s out first

expect 0 "ONNX at another size" convert run run24.onnx --image-size 24
LC_ALL=C grep -aq "input_size..24" run24.onnx || fail "the ONNX file is not at 24"
expect 2 "that is ONNX's alone" convert run run24.h5 --image-size 24
says "--image-size and --embed-preprocessing are for .onnx files"

expect 0 "norm-tuning" train images -o norms --weights run/last.h5 --thaw norm,head $small \
    --epochs 1
says "norm,head trains, 3,715 of"
expect 2 "a mistyped stage gets the nearest" train images -o none --weights run/last.h5 \
    --thaw blok5,head $small
says "did you mean block5?"
expect 0 "the plan is shown" inspect run --thaw block5,norm,head --batch 4

finish
