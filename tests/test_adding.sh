#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs/adding.md, followed to the letter: its code goes into a copy of the tree, which is
# built; the op passes the op test, and the new backbone trains under the new head on the
# new data format.  Usage: test_adding.sh BUILD_DIR
set -eu
build=$1
source=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${THAW_SANITIZE:-}" ]; then
    echo "skipped: builds the tree once more, which the other builds do already"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "failed: $*" >&2
    exit 1
}

mkdir "$work/tree"
(cd "$source" && tar cf - --exclude='./build*' --exclude=./.git --exclude=./shared .) |
    tar xf - -C "$work/tree"

# A line that names a file, `FILE`, comes before each ```c block: "New file", "at the end"
# or "after `TEXT`", the beginning of the only line that has it.
awk -v tree="$work/tree" '
/^```c$/ { if (file == "") exit 1; code = 1; text = ""; next }
/^```$/ {
    path = tree "/" file
    if (after == "") {
        printf "%s", text >> path
    } else {
        out = ""
        while ((getline line <path) > 0) {
            out = out line "\n"
            if (index(line, after)) { out = out text; found++ }
        }
        close(path)
        printf "%s", out > path
        if (found != 1) { print file ": " found + 0 " lines have " after; exit 1 }
        found = 0
    }
    close(path)
    n++; code = 0; file = ""; next
}
code { text = text $0 "\n"; next }
/`[a-z_\/]*\.(c|h|def)`(:$|, at the end|, after `)/ {
    file = $0
    sub(/`(:|, at the end|, after ).*/, "", file); sub(/.*`/, "", file)
    after = ""
    if ($0 ~ /, after `/) { after = $0; sub(/.*, after `/, "", after); sub(/`:$/, "", after) }
}
END { if (n < 10) { print "only " n " blocks of code found"; exit 1 } }
' "$source/docs/adding.md" || fail "docs/adding.md cannot be followed"

cd "$work/tree"
cmake -S . -B build -DTHAW_WERROR=ON >"$work/log" 2>&1 || fail "$(cat "$work/log")"
cmake --build build -j "$(nproc)" --target thaw_program test_ops >"$work/log" 2>&1 ||
    fail "$(tail -n 40 "$work/log")"
build/test_ops >"$work/log" 2>&1 || fail "$(cat "$work/log")"
sh tests/check_layers.sh >"$work/log" 2>&1 || fail "$(cat "$work/log")"
build/thaw list backbones | grep -q dwnet16 || fail "thaw list knows no dwnet16"

"$build/make_images" "$work/images" 2 8 32
for class in class_0 class_1; do
    for file in "$work/images/$class"/*; do
        printf '%s\t%s\n' "$class" "$file"
    done
done >"$work/list.txt"
build/thaw train "pairs:$work/list.txt" -o "$work/run" --backbone dwnet16 --head bottleneck --weights random \
    --thaw "0:head 1:stage3,head 2:all" --epochs 3 --batch 4 >"$work/log" 2>&1 ||
    fail "$(cat "$work/log")"
grep -q 'verified unchanged' "$work/log" || fail "no certificate: $(cat "$work/log")"
build/thaw eval "$work/run" "pairs:$work/list.txt" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
build/thaw train "pairs:$work/list.txt" -o "$work/other" --weights "$work/run/best.h5" --head classify \
    --epochs 1 --batch 4 >"$work/log" 2>&1 || fail "another head: $(cat "$work/log")"
printf 'no tab here\n' >"$work/list.txt"
build/thaw eval "$work/run" "pairs:$work/list.txt" >"$work/log" 2>&1 && fail "a bad list was read"
grep -q 'line 1' "$work/log" || fail "$(cat "$work/log")"
echo "docs/adding.md builds, passes the op test, trains"
