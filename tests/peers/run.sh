#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compares a built thaw with PyTorch, in a Python environment of its own.
# Usage: sh tests/peers/run.sh numerics|speed|loading|bytes|story|self-test|golden [THAW [options of the script]]
#   THAW: the program, build/thaw if omitted. self-test and golden need none. story: THAW DATA.
#   THAW_PEERS_VENV: an environment to use or make; else one in the user's cache folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
venv=${THAW_PEERS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/thaw-peers}
what=${1:-numerics}
[ $# -eq 0 ] || shift
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
if ! "$venv/bin/python" -c 'import h5py, numpy, PIL, timm, torch, torchvision' 2>/dev/null; then
    "$venv/bin/python" -m pip install --quiet -r "$here/requirements.txt"
fi
case $what in
numerics | speed | loading | bytes | story)
    thaw=${1:-$here/../../build/thaw}
    [ $# -eq 0 ] || shift
    exec "$venv/bin/python" "$here/$what.py" --thaw "$thaw" "$@"
    ;;
self-test)
    exec "$venv/bin/python" "$here/numerics.py" --self-test "$@"
    ;;
golden)
    "$venv/bin/python" "$here/../golden/make.py" --verify
    "$venv/bin/python" "$here/../golden/make.py" >"$here/../golden/resnet.h.new"
    mv "$here/../golden/resnet.h.new" "$here/../golden/resnet.h"
    "$venv/bin/python" "$here/../golden/vit.py" >"$here/../golden/vit.h.new"
    mv "$here/../golden/vit.h.new" "$here/../golden/vit.h"
    ;;
*)
    sed -n '3,6s/^# //p' "$0"
    exit 2
    ;;
esac
