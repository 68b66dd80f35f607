# SPDX-License-Identifier: Apache-2.0
# What tests of the program from outside share: `. cli.sh BUILD_DIR` makes a folder to work in, goes
# there, and knows $build and $thaw. `fail` shows out and err, the streams of the last call.
set -u
build=$(cd "$1" && pwd)
thaw=$build/thaw
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
unset THAW_WEIGHTS
checks=0 failures=0

fail() {
    echo "FAILED: $*"
    sed 's/^/    stdout: /' out
    sed 's/^/    stderr: /' err
    failures=$((failures + 1))
}
expect() { # CODE "what holds" arguments of thaw...
    want=$1 what=$2
    shift 2
    checks=$((checks + 1)) code=0
    "$thaw" "$@" >out 2>err </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$what (exit code $code, not $want)"
}
says() { # on stderr
    grep -qF -e "$1" err || fail "$what: stderr lacks: $1"
}
prints() { # on stdout, an extended pattern
    grep -qE -e "$1" out || fail "$what: stdout lacks: $1"
}
check() { # "what holds" command...
    what=$1
    shift
    checks=$((checks + 1))
    "$@" || fail "$what"
}
finish() { # the test's last command
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ]
}
