#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The long run of tests/faults/soak.sh, shorter: few samples, so 4 MB of ups and downs pass.  Usage: test_soak.sh BUILD_DIR
[ -z "${THAW_SANITIZE:-}" ] || exit 77 # sanitizers keep freed blocks for a while
exec sh "$(dirname "$0")/faults/soak.sh" "$1" 20 15 4096
