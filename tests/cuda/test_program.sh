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

# What cuDNN compiled is kept here, for the trainings that follow.
XDG_CACHE_HOME=$work/cache
export XDG_CACHE_HOME

"$build/make_images" "$work/images" 2 8 32
same head --epochs 2 --thaw head --augment none --cache memory
same stage --epochs 1 --thaw stage3,head
same gradual --epochs 2 --thaw '0:head 1:stage3,head' --accumulate 2

# In bf16 what is kept of the part below the cut is what it computes, too.
for cache in off memory; do
    EMU_ORDER=late train cuda:0 "half-$cache" --epochs 1 --thaw stage3,head --augment none --precision bf16 --cache "$cache"
done
cmp "$work/half-off/best.h5" "$work/half-memory/best.h5" || fail "bf16: --cache changes the result"

# Usage: plans MADE READ what: of a training with the head, by the device's count
plans() {
    EMU_COUNT=1 EMU_ORDER=late "$build/thaw" train "$work/images" -o "$work/plans-$3" --weights "$weights" \
        --batch 4 --epochs 1 --thaw head --augment none --device cuda:0 ${4+--plan-cache "$4"} >"$work/out" 2>&1 ||
        fail "plans, $3: exit $?: $(cat "$work/out")"
    made=$(sed -n 's/.* \([0-9]*\) plans (.*/\1/p' "$work/out")
    read=$(sed -n 's/.*plans (\([0-9]*\) more read.*/\1/p' "$work/out")
    case $1 in
    some) [ "$made" -gt 0 ] ;;
    *) [ "$made" -eq "$1" ] ;;
    esac || fail "plans, $3: $made made, not $1"
    case $2 in
    some) [ "$read" -gt 0 ] ;;
    *) [ "$read" -eq "$2" ] ;;
    esac || fail "plans, $3: $read read, not $2"
    cmp "$work/plans-off/best.h5" "$work/plans-$3/best.h5" || fail "plans, $3: another result"
}
kept=$(find "$work/cache/thaw/plans" -name '*.plan' | wc -l)
[ "$kept" -gt 10 ] || fail "$kept plans are kept by the trainings"
plans some 0 off off
plans some some first "$work/plans"
plans 0 some again "$work/plans"
! grep -q warning "$work/out" || fail "plans that are read: $(grep warning "$work/out")"
one=$(find "$work/plans" -name '*.plan' | head -1)
printf 'x' >>"$one"
plans 1 some damaged "$work/plans"
[ "$(grep -c "warning.*made again" "$work/out")" -eq 1 ] || fail "a damaged plan: $(cat "$work/out")"

photo=$work/images/class_0/000.ppm
"$build/thaw" predict "$work/cpu-stage" "$photo" >"$work/cpu.said" || fail "predict on the CPU"
EMU_ORDER=late "$build/thaw" predict "$work/late-stage" "$photo" --device cuda:0 >"$work/cuda.said" 2>&1 ||
    fail "predict: exit $?: $(cat "$work/cuda.said")"
cmp "$work/cpu.said" "$work/cuda.said"
find "$work/cache/thaw/plans" -name '*.plan' -exec sh -c 'for i; do printf x >>"$i"; done' sh {} +
EMU_ORDER=late "$build/thaw" predict "$work/late-stage" "$photo" --device cuda:0 >"$work/cuda.said" 2>"$work/out" ||
    fail "predict with damaged plans: exit $?: $(cat "$work/out")"
cmp "$work/cpu.said" "$work/cuda.said"
[ "$(grep -c "warning.*made again" "$work/out")" -eq 1 ] || fail "damaged plans in predict: $(cat "$work/out")"
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
