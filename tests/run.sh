#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs every test. The last line counts them.
# Usage: sh tests/run.sh [BUILD_DIR [extra cmake arguments]]
# THAW_TEST_ASSETS: folder of pretrained weights and images for the tests that want them
# (they are skipped without it). THAW_NO_INSTALL=1: install nothing.
set -eu
cd "$(dirname "$0")/.."
sh tools/deps.sh
build=${1:-build}
[ $# -eq 0 ] || shift
cmake -S . -B "$build" "$@"
cmake --build "$build" -j "$(nproc)"
rm -f "$build/ctest.log"
status=0
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" >"$build/ctest.log" 2>&1 || status=$?
cat "$build/ctest.log"
passed=$(grep -c 'Test .*   Passed ' "$build/ctest.log" || true)
skipped=$(grep -c 'Test .*\*\*\*Skipped ' "$build/ctest.log" || true)
failed=$(grep 'Test *#' "$build/ctest.log" | grep -vc -e '   Passed ' -e 'Skipped ' || true)
if [ "$passed" -eq 0 ]; then # nothing ran: that is a failure, not a success
    status=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
