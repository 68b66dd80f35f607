#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The program on the emulated device, late and at random: trainings have the CPU's losses, the
# certificate holds, predictions are the CPU's, and the device finds no mistake.
# Usage: test_program.sh BUILD_DIR SOURCE_DIR, with THAW_CUDA_ENGINE the emulated engine.
set -eu
build=$1
weights=$2/examples/weights/resnet20-cifar10.h5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "failed: $*" >&2
    exit 1
}

# Usage: train DEVICE RUN options: its losses and scores to RUN.said
train() {
    device=$1
    run=$work/$2
    shift 2
    "$build/thaw" train "$work/images" -o "$run" --weights "$weights" --batch 4 "$@" \
        --device "$device" >"$run.out" 2>&1 || fail "$device, $*: exit $?: $(cat "$run.out")"
    grep -q 'tensors, verified unchanged' "$run.out" || fail "no certificate: $(cat "$run.out")"
    grep -o 'train loss .* %' "$run.out" >"$run.said"
}

# Usage: same NAME options: on the CPU, and on the device in two orders
same() {
    name=$1
    shift
    train cpu "cpu-$name" "$@"
    for order in late random; do
        EMU_ORDER=$order train cuda:0 "$order-$name" "$@"
        cmp -s "$work/cpu-$name.said" "$work/$order-$name.said" ||
            fail "$*: the CPU has $(cat "$work/cpu-$name.said"), the device $(cat "$work/$order-$name.said")"
    done
    echo "$*: $(tail -1 "$work/cpu-$name.said"), on both"
}

"$build/make_images" "$work/images" 2 8 32
same head --epochs 2 --thaw head --augment none --cache memory
same stage --epochs 1 --thaw stage3,head
same gradual --epochs 2 --thaw '0:head 1:stage3,head' --accumulate 2

# In bf16 what is kept of the part below the cut is what it computes, too.
for cache in off memory; do
    EMU_ORDER=late train cuda:0 "half-$cache" --epochs 1 --thaw stage3,head --augment none --precision bf16 --cache "$cache"
done
cmp "$work/half-off/best.h5" "$work/half-memory/best.h5" || fail "bf16: --cache changes the result"

photo=$work/images/class_0/000.ppm
"$build/thaw" predict "$work/cpu-stage" "$photo" >"$work/cpu.said" || fail "predict on the CPU"
EMU_ORDER=late "$build/thaw" predict "$work/late-stage" "$photo" --device cuda:0 >"$work/cuda.said" 2>&1 ||
    fail "predict: exit $?: $(cat "$work/cuda.said")"
cmp "$work/cpu.said" "$work/cuda.said"
EMU_ORDER=late "$build/thaw" predict "$work/half-off" "$photo" --device cuda:0 --precision bf16 >"$work/out" 2>&1 ||
    fail "predict in bf16: exit $?: $(cat "$work/out")"

# A driver that cannot be used, and memory that does not suffice.
status=0
EMU_MISSING=35 "$build/thaw" predict "$work/cpu-stage" "$photo" --device cuda:0 >"$work/out" 2>&1 || status=$?
[ "$status" -eq 1 ] || fail "without a driver: exit $status: $(cat "$work/out")"
grep -q 'no NVIDIA GPU' "$work/out" || fail "without a driver: $(cat "$work/out")"
status=0
EMU_ORDER=late EMU_CAPACITY=1000000 "$build/thaw" predict "$work/cpu-stage" "$photo" --device cuda:0 \
    >"$work/out" 2>&1 || status=$?
[ "$status" -eq 6 ] || fail "without memory: exit $status: $(cat "$work/out")"
grep -q 'bytes of device memory' "$work/out" || fail "without memory: $(cat "$work/out")"
