#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need, and those named as
# arguments; does nothing if all are there. Without apt-get: says what is needed, exit 2.
# THAW_NO_INSTALL=1: installs nothing, exit 0.
set -eu
packages="gcc libc6-dev make cmake pkg-config libdnnl-dev libhdf5-dev libexpat1-dev libyaml-dev libjpeg-dev libpng-dev libwebp-dev libstb-dev zlib1g-dev libcmocka-dev $*"
[ -z "${THAW_NO_INSTALL:-}" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    cat >&2 <<'END'
This is no Debian or Ubuntu: nothing was installed. Thaw needs
  a C11 compiler with OpenMP, make, cmake 3.22 or newer, pkg-config,
  HDF5, expat, libyaml, libjpeg-turbo, libpng, libwebp, zlib, stb_image.h (stb),
  oneDNN 2.6 or newer (else plain C computes), cmocka (for the tests).
With these installed, go on with THAW_NO_INSTALL=1 in the environment.
END
    exit 2
fi
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo="sudo "
    if ! command -v sudo >/dev/null 2>&1; then
        echo "as root: apt-get update && apt-get install -y --no-install-recommends$missing" >&2
        exit 2
    fi
fi
echo "${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends$missing" >&2
# shellcheck disable=SC2086 # lists of words
${sudo}apt-get update >&2
# shellcheck disable=SC2086
${sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >&2
