#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs into a folder, moves it, and builds the example there through find_package and
# through pkg-config; both train and predict.  Usage: test_install.sh BUILD_DIR
set -eu
build=$1
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-Wall -Wextra -Werror"
[ -z "${THAW_SANITIZE:-}" ] || flags="$flags -fsanitize=$THAW_SANITIZE"

fail() {
    echo "failed: $*" >&2
    exit 1
}

cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
mv "$work/first" "$work/prefix" # an installed tree can be moved
prefix=$work/prefix
"$prefix/bin/thaw" --version | grep -q '^thaw [0-9]' || fail "the installed program does not run"
grep -q '^.TH THAW 1' "$prefix/share/man/man1/thaw.1" || fail "no man page"
[ -f "$prefix/share/doc/thaw/LICENSE" ] || fail "no licence"
[ -f "$prefix/share/bash-completion/completions/thaw" ] || fail "no completion"

if [ -z "${THAW_SANITIZE:-}" ]; then # sanitizers add symbols of their own
    library=$(find "$prefix" -name 'libthaw.so.0')
    others=$(nm -D --defined-only "$library" | awk '$3 !~ /^thaw_/ {print $3}')
    [ -z "$others" ] || fail "libthaw.so shows other symbols than thaw.h's: $others"
fi

mkdir "$work/by_pkgconfig"
pc=$(dirname "$(find "$prefix" -name thaw.pc)")
# shellcheck disable=SC2086,SC2046 # lists of words
${CC:-cc} -std=c11 $flags "$source/examples/finetune_folder.c" \
    -o "$work/by_pkgconfig/finetune_folder" \
    $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs thaw) || fail "pkg-config"
cmake -S "$source/examples" -B "$work/by_cmake" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_C_COMPILER="${CC:-cc}" -DCMAKE_C_FLAGS="$flags" >"$work/log" 2>&1 ||
    fail "$(cat "$work/log")"
cmake --build "$work/by_cmake" >>"$work/log" 2>&1 || fail "$(cat "$work/log")"

"$build/make_images" "$work/images" 2 6 32
for way in by_pkgconfig by_cmake; do
    LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libthaw.so)") \
        "$work/$way/finetune_folder" "$work/images" random "$work/run_$way" \
        "$work/images/class_0/000.ppm" backbone=resnet20 image-size=32 epochs=1 batch=4 \
        >"$work/out" 2>&1 || fail "$way: $(cat "$work/out")"
    grep -q '000.ppm: class_[01] ' "$work/out" || fail "$way predicts nothing: $(cat "$work/out")"
    [ -f "$work/run_$way/last.h5" ] || fail "$way leaves no model"
done
(cd "$work" && "$prefix/bin/thaw" train images -o run_shipped --backbone resnet20 --epochs 1 --batch 4) \
    >"$work/out" 2>&1 || fail "without --weights: $(cat "$work/out")"
grep -q 'resnet20.h5: resnet20, loaded' "$work/out" || fail "other weights: $(cat "$work/out")"
echo "installed, moved, built twice, trained three times"
