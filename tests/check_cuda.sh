#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The program and the library neither link, load nor name a library of CUDA, wherever they
# are built; and the engine, where it is built, calls nothing of CUDA but what docs/cuda.md
# lists.  Usage: check_cuda.sh BUILD_DIR
set -eu
build=$1
bad=0
libraries='lib(cuda|cudart|cudnn|cublas|nvrtc|nvidia|nccl)'
command -v readelf >/dev/null || {
    echo "skipped: no readelf here"
    exit 77
}
for file in "$build/thaw" "$build"/libthaw.so; do
    needed=$(readelf -d "$file" | grep NEEDED)
    [ -n "$needed" ] || { echo "$file: readelf names no library at all"; bad=1; }
    if echo "$needed" | grep -E "$libraries"; then
        echo "$file links the above"
        bad=1
    fi
    if ldd "$file" | awk '{print $1}' | grep -E "$libraries"; then
        echo "$file loads the above"
        bad=1
    fi
    # what dlopen would be told
    if strings -a "$file" | grep -E "$libraries[A-Za-z]*\.so"; then
        echo "$file names the above"
        bad=1
    fi
done
if [ -f "$build/test_device" ]; then # on the emulated device everything is ours
    if ldd "$build/test_device" | awk '{print $1}' | grep -E "$libraries"; then
        echo "test_device loads the above"
        bad=1
    fi
fi
plugin=$build/libthaw_cuda.so
if [ -f "$plugin" ]; then
    shown=$(nm -D --defined-only "$plugin" | awk '{print $3}')
    [ -n "${THAW_SANITIZE:-}" ] || [ "$shown" = th_plugin_entry ] || {
        echo "the plugin shows other symbols than its entry: $shown"
        bad=1
    }
    for name in libcudart libcublasLt libcudnn; do
        readelf -d "$plugin" | grep -q "NEEDED.*$name" || { echo "the plugin does not need $name"; bad=1; }
    done
fi
if [ -f "$build/emulated/libthaw_cuda.so" ]; then
    if readelf -d "$build/emulated/libthaw_cuda.so" | grep NEEDED | grep -vE 'libemucuda' | grep -E "$libraries"; then
        echo "the plugin on the emulated device needs the above"
        bad=1
    fi
fi
docs=$(dirname "$0")/../docs/cuda.md
if [ -f "$build/libthaw_cuda.a" ]; then
    called=$(nm -u "$build/libthaw_cuda.a" | awk '$1 == "U" {print $2}' |
        grep -E '^(cudnn|cuda|cublas|nccl|cu[A-Z])' | LC_ALL=C sort -u)
    [ -n "$called" ] || { echo "the engine calls nothing of CUDA"; bad=1; }
    for name in $called; do
        grep -qw "$name" "$docs" || { echo "kernels/cuda calls $name, which $docs does not list"; bad=1; }
    done
fi
[ "$bad" -eq 0 ] && echo "thaw and libthaw.so know no CUDA"
exit "$bad"
