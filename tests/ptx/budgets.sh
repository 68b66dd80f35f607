#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Registers, spilled bytes and static shared memory of each kernel on each device, as ptxas
# says, and how many 128-bit accesses its PTX has, against the table. More of the first three,
# or fewer of the last, fails; so does a kernel that one side alone has.
# Usage: budgets.sh DEVICE_DIR TABLE [--write]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -n "$(ls "$1"/fatbin/*.log 2>/dev/null)" ] || {
    echo "skipped: no device code in $1"
    exit 77
}

# kernel device registers spilled shared
awk '
/Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; device = q[4] }
/bytes stack frame/ { spilled = $1 + $5 + $9 } # of the stack, stored, loaded
/ Used / {
    shared = 0
    for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^registers/) registers = $i
        if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
    }
    print kernel, device, registers, spilled, shared
}' "$1"/fatbin/*.log >"$work/ptxas"

# kernel, its accesses of 128 bits
awk '
/\.entry/ { kernel = $0; sub(/.*\.entry /, "", kernel); sub(/\(.*/, "", kernel); n[kernel] += 0 }
/(ld|st)\.global\.v4\.[fu]32/ { n[kernel]++ }
END { for (k in n) print k, n[k] }' "$1"/compute_90/*.ptx >"$work/vectors"

version=$(grep -m1 -ho 'release [0-9.]*, V[0-9.]*' "$1"/compute_90/*.ptx | head -1)
LC_ALL=C sort "$work/ptxas" >"$work/left"
LC_ALL=C sort "$work/vectors" >"$work/right"
{
    echo "# kernel device registers spilled shared vectors, by nvcc $version"
    LC_ALL=C join "$work/left" "$work/right"
} >"$work/now"
[ "$(wc -l <"$work/now")" -gt 100 ] || {
    echo "the logs in $1/fatbin name hardly a kernel"
    exit 1
}
if [ "${3-}" = --write ]; then
    cp "$work/now" "$2"
    exit 0
fi

grep -q "nvcc $version\$" "$2" || {
    echo "skipped: the table is not of nvcc $version"
    exit 77
}
awk '
/^#/ { next }
NR == FNR { table[$1 " " $2] = $0; next }
{
    key = $1 " " $2
    n++
    if (!(key in table)) {
        print key ": is not in the table"
        bad++
        next
    }
    split(table[key], was, " ")
    delete table[key]
    if ($3 > was[3] + 0) { print key ": " $3 " registers, the table allows " was[3]; bad++ }
    if ($4 > was[4] + 0) { print key ": " $4 " bytes of stack and spills, the table allows " was[4]; bad++ }
    if ($5 > was[5] + 0) { print key ": " $5 " bytes of shared memory, the table allows " was[5]; bad++ }
    if ($6 < was[6] + 0) { print key ": " $6 " accesses of 128 bits, the table has " was[6]; bad++ }
    if ($4 > 0) { print key ": spills"; bad++ }
}
END {
    for (key in table) { print key ": is in the table alone"; bad++ }
    if (bad) print "if this is meant: cmake --build BUILD --target ptx_budgets_table"
    else print n " kernels keep to their budgets"
    exit bad > 0
}' "$2" "$work/now"
