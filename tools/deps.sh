#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need; nothing if all are there.
set -eu
packages="gcc libc6-dev make cmake pkg-config libdnnl-dev libhdf5-dev libjpeg-dev libpng-dev libstb-dev zlib1g-dev libcmocka-dev"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get here: install a C compiler, cmake, pkg-config and cmocka yourself" >&2
    exit 2
fi
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
echo "$sudo apt-get install -y --no-install-recommends$missing" >&2
$sudo apt-get update
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing
