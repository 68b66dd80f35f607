#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The program where there is no GPU: cuda:0 is refused at once, auto goes on on the CPU and
# says so.  Usage: test_device_cli.sh BUILD_DIR
set -eu
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "failed: $*" >&2
    exit 1
}

"$build/make_images" "$work/images" 2 6 32
train="train $work/images -o $work/run --weights random --backbone resnet20 --image-size 32 --epochs 1 --batch 4"

# Usage: refused WHY
refused() {
    start=$(date +%s%N)
    status=0
    # shellcheck disable=SC2086 # a list of words
    "$build/thaw" $train --device cuda:0 >"$work/out" 2>&1 || status=$?
    took=$((($(date +%s%N) - start) / 1000000))
    [ "$status" -eq 1 ] || fail "exit $status: $(cat "$work/out")"
    grep -q "cuda:\{0,1\}0\{0,1\}: .*$1" "$work/out" || fail "no '$1' in: $(cat "$work/out")"
    [ "$(grep -c . "$work/out")" -eq 1 ] || fail "more than a line: $(cat "$work/out")"
    [ ! -e "$work/run" ] || fail "leaves a folder"
    echo "refused after $took ms: $(cat "$work/out")"
}

status=0
# shellcheck disable=SC2086
"$build/thaw" $train --precision tf32 >"$work/out" 2>&1 || status=$?
[ "$status" -eq 2 ] || fail "tf32 on the CPU: exit $status: $(cat "$work/out")"
grep -q -e '--precision tf32: the device cpu computes in fp32 alone' "$work/out" || fail "$(cat "$work/out")"
[ ! -e "$work/run" ] || fail "tf32 on the CPU leaves a folder"

THAW_CUDA_ENGINE=$work/none.so
export THAW_CUDA_ENGINE
refused 'cannot be loaded'
# shellcheck disable=SC2086
"$build/thaw" $train --device auto >"$work/out" 2>&1 || fail "auto: $(cat "$work/out")"
grep -q '^ *device .*cpu: .*; .*cannot be loaded' "$work/out" || fail "auto is silent: $(cat "$work/out")"
rm -r "$work/run"
unset THAW_CUDA_ENGINE
if [ -f "$build/libthaw_cuda.so" ] && [ ! -e /dev/nvidia0 ] && [ -z "${THAW_SANITIZE:-}" ]; then
    refused 'no NVIDIA GPU that can be used here'
else
    echo "the engine itself was not asked: not built, or there is a GPU"
fi
