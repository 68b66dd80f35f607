#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# thaw doctor from outside: what it says of a machine, of a right device and of a wrong one.
# Usage: test_doctor_cli.sh BUILD_DIR
set -u
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    stdout: /' "$work/out"
    sed 's/^/    stderr: /' "$work/err"
    failures=$((failures + 1))
}

# Usage: expect CODE arguments...
expect() {
    want=$1
    shift
    what="doctor $*"
    code=0
    "$build/thaw" doctor "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$what: exit code $code, not $want"
}

prints() { # an extended pattern
    grep -qE -e "$1" "$work/out" || fail "$what: stdout lacks: $1"
}
says() { # in the one line on stderr
    grep -qF -e "$1" "$work/err" || fail "$what: stderr lacks: $1"
    [ "$(grep -c . "$work/err")" -eq 1 ] || fail "$what: more than a line on stderr"
}

# ---- no engine ----
THAW_CUDA_ENGINE=$work/none.so
export THAW_CUDA_ENGINE
expect 0
prints '^with +.*HDF5 [0-9.]+'
prints '^with +.*libjpeg-turbo [0-9.]+'
prints '^absent +device cuda: .*cannot be loaded'
grep -q '^op ' "$work/out" && fail "$what: checks what nobody asked for"
expect 0 --json
prints '"libraries":".*HDF5 .*"has_cuda":false,"cuda":"device cuda: '
expect 1 --device cuda:0
says 'cannot be loaded'
expect 2 --check --limit 601
says '--limit'

# ---- a right device ----
expect 0 --check --limit 10
prints '^gelu +[0-9]+ +[0-9.e-]+ +5e-06  ok$'
prints '^[0-9]+ ops in [0-9]+ runs, 0 FAILED'
prints '^training step '
expect 0 --device ref --limit 3 --json
prints '"ops_failed":0,.*"ops":\[.*"steps":\[.*\]\}$'

# ---- a wrong one ----
THAW_CUDA_ENGINE=$build/libwrong_engine.so
expect 0
prints '^beside +cuda:0: no GPU'
expect 1 --device cuda:0 --limit 10
prints '^device +cuda:0: no GPU'
prints '^beside +cpu: '
prints '^gelu +[0-9]+ .* FAILED [0-9]+: gelu.* off by a relative'
prints '^relu +[0-9]+ .* ok$'
prints ' ops in [0-9]+ runs, 1 FAILED'
says '1 of '
says 'gelu first'
expect 1 --device cuda:0 --limit 3 --json
prints '"ops_failed":1,.*"op":"gelu",[^}]*"why":"gelu'

[ "$failures" -eq 0 ] && echo "the doctor knows right from wrong"
[ "$failures" -eq 0 ]
