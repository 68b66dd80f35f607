#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The structure of the tree (docs/design.md): what stands at the top, which layer includes
# which, where third-party headers may be, how long files and functions are.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=$work/bad

# Top level: exactly this, and dotfiles; builds and shared/ are no part of the tree.
for entry in *; do
    case $entry in
    vision | backbones | heads | data | kernels | tools | tests | docs | examples) ;;
    CMakeLists.txt | README.md | LICENSE | build* | shared) ;;
    *) echo "$entry: may not stand at the top of the tree" >>"$bad" ;;
    esac
done

find . -path './build*' -prune -o -path ./shared -prune -o \
    \( -name '*.[ch]' -o -name '*.cu' \) -print | sed 's|^\./||' | LC_ALL=C sort >"$work/files"
grep -v '^tests/' "$work/files" >"$work/sources"

# file line: rank of its layer. A file may include its own rank's family and lower ranks.
# Families of one rank (kernels, data, weights) do not include each other.
awk '
function stem(path) { sub(/.*\//, "", path); sub(/\.[a-z]*$/, "", path); return path }
function rank(path,  s) {
    s = stem(path)
    if (path ~ /^(tools|examples)\//) return "7 tools"
    if (path ~ /^kernels\//) return "2 kernels"
    if (path ~ /^data\//) return "2 data"
    if (path ~ /^vision\/(weights|dialects)\// || s ~ /^(weights|weights_stream|pickle.*|zip|hdf5.*|number|dialect.*|hub)$/) return "2 weights"
    if (path ~ /^(backbones|heads)\//) return "4 model"
    if (s ~ /^(thaw|error|mem|rng|tensor|options|config|file|bytes|box|size|cores|half|json|json_out|sandbox.*)$/) return "1 core"
    if (s == "graph") return "3 graph"
    if (s ~ /^(layers|fpn|simple_pyramid|tower|detector|anchors|rcnn|retina|lora|model|freeze|schedule|store)$/) return "4 model"
    if (s ~ /^(plan|pass|pass_.*|exec|cache|optim)$/) return "5 plan"
    return "6 trainer"
}
{
    files[NR] = $0
    where[stem($0) ".h"] = ($0 ~ /\.h$/) ? $0 : where[stem($0) ".h"]
}
END {
    for (i = 1; i <= NR; i++) {
        file = files[i]
        while ((getline line <file) > 0) {
            if (line !~ /^#[ ]*include "/) continue
            name = line
            sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
            target = where[stem(name) ".h"]
            if (target == "") continue # a .def or generated file
            split(rank(file), a, " "); split(rank(target), b, " ")
            if (b[1] > a[1] || (a[1] == b[1] && a[2] != b[2]))
                print file ": includes " target ", which is not below it"
            if (a[2] == "tools" && target !~ /^tools\// && target != "vision/thaw.h")
                print file ": tools and examples use thaw.h only, not " target
        }
    }
}' "$work/sources" >>"$bad"

# header pattern, where it may be included.
only_in() {
    xargs grep -lE "include [<\"]($1)" <"$work/sources" | grep -vE "$2" |
        while read -r file; do
            echo "$file: includes $1, which belongs to $2"
        done >>"$bad" || true
}
only_in 'dnnl' '^kernels/cpu/'
only_in '(cudnn|cublas|cuda)' '^kernels/cuda/'
only_in '(hdf5|H5[A-Za-z]*public)\.h' '^vision/(weights/hdf5|hdf5_)'
only_in '(jpeglib|turbojpeg|png|webp/[a-z]+|stb/stb_image|stb_image)\.h' '^data/decode/'
only_in 'expat\.h' '^data/'
only_in 'yaml\.h' '^data/'
only_in 'omp\.h' '^kernels/'

xargs awk 'FNR == 1 { start = 0 }
/^\{/ { start = FNR }
/^\}/ { if (start && FNR - start + 1 > 80) print FILENAME ":" start ": function of " FNR - start + 1 " lines"; start = 0 }
FNR == 601 { print FILENAME ": more than 600 lines" }
FNR == 1 && FILENAME !~ /golden/ && !/SPDX-License-Identifier: Apache-2.0/ { print FILENAME ": no SPDX line" }' \
    <"$work/files" >>"$bad"

if [ -s "$bad" ]; then
    cat "$bad"
    exit 1
fi
echo "$(wc -l <"$work/files") files keep to the layers"
