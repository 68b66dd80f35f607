#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What people give by mistake, row by row: the exit code, a phrase of the message, no crash
# or leak (under the sanitizers they are exit codes of their own), in time, and no run
# folder where a run could not begin.  Usage: test_bad_input.sh BUILD_DIR
set -u
build=$(cd "$1" && pwd)
golden=$(cd "$(dirname "$0")/golden" && pwd)
thaw=$build/thaw
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work" || exit 1
unset THAW_WEIGHTS
rows=0 failures=0
as= # a command before thaw: as whom it runs

fail() {
    echo "FAILED: $*"
    sed 's/^/    stdout: /' out
    sed 's/^/    stderr: /' err
    failures=$((failures + 1))
}

# row CODE "phrase of stderr" arguments...   A failure leaves no `new` behind, unless the
# run had begun: bad images are met on the way.
begun=
row() {
    want=$1 phrase=$2
    shift 2
    rows=$((rows + 1)) code=0
    rm -rf new
    # shellcheck disable=SC2086 # a list of words
    timeout 20 $as "$thaw" "$@" >out 2>err </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$* (exit code $code, not $want)"
    [ -z "$phrase" ] || grep -qF -e "$phrase" err || fail "$*: stderr lacks: $phrase"
    [ "$want" -eq 0 ] || [ -n "$begun" ] || [ ! -e new ] || fail "$*: left a run folder behind"
}

small="--backbone resnet20 --image-size 8 --batch 4 --threads 1 --workers 1"
plain="--weights random $small"
# shellcheck disable=SC2086 # lists of words
train() { # CODE phrase DATA options...
    code_=$1 phrase_=$2 data_=$3
    shift 3
    row "$code_" "$phrase_" train "$data_" -o new --epochs 1 $plain "$@"
}

"$build/make_images" good 3 6 8 || exit 1
"$build/make_images" five 5 2 8 || exit 1
"$thaw" train good -o run --epochs 1 --thaw all --weights random --backbone resnet20 \
    --image-size 8 --threads 1 --workers 1 --quiet >out 2>err || fail "a sound run"
with() { # NAME: a copy of the good data to be spoilt
    rm -rf "$1" && cp -r good "$1"
}

# ---- DATA ----
mkdir empty one no_class one/only
cp good/class_0/000.ppm one/only/
cp good/class_0/000.ppm no_class/
train 3 "empty/CLASS/" empty
train 3 "no class folders in it" no_class
train 3 "only one class, \"only\"; a classifier needs two" one
with hollow && rm hollow/class_1/*
train 3 'class "class_1" has no training images; add some or remove it' hollow
train 5 "nowhere: cannot be opened: No such file or directory; DATA is DIR/train/CLASS" nowhere
train 5 "000.ppm: is not a folder, but one is wanted; DATA is" good/class_0/000.ppm
train 2 "no format of data is called 'foo:'; there are coco: csv: folder: idx: voc: yolo:" foo:good
train 5 "nowhere.csv: cannot be opened: No such file" csv:nowhere.csv
train 5 "nowhere: cannot be opened: No such file" idx:nowhere
train 3 "no file train-images" idx:empty
train 5 "nowhere: cannot be opened: No such file" good --val nowhere
train 2 "give a fraction from 0 to below 1" good --val 1.5
printf 'path,label\ngood/class_0/000.ppm\n' >short.csv
train 3 "short.csv, line 2: 1 columns, the header has more" csv:short.csv
printf 'a,b\n1,2\n' >columns.csv
train 3 "its first line must name a column path" csv:columns.csv

# ---- images ----
bad_image() { # CODE phrase FILE: as IMAGE, as one of many, and as most of a class
    row "$1" "$2" predict run "$3"
    with spoilt && cp "$3" "spoilt/class_1/$(basename "$3")"
    train 0 "$2" spoilt --val 0
    begun=yes
    [ "$1" -eq 0 ] || train 3 "more than the 0 that --max-bad allows" spoilt --val 0 --max-bad 0
    begun=
}
: >empty.png
bad_image 3 "damaged JPEG: the data end or break after" "$golden/images/half.jpg"
bad_image 3 "the file is empty" empty.png
bad_image 3 "claims 30000x30000 pixels" "$golden/images/huge.png"
bad_image 3 "damaged WebP" "$golden/images/webp.jpg"
cp "$golden/images/plain.gif" gif.jpg
bad_image 0 "" gif.jpg
bad_image 0 "" "$golden/images/cmyk.jpg"
latin=$(printf 'caf\351.ppm')
cp good/class_0/000.ppm "$latin"
bad_image 0 "" "$latin"
row 0 "" predict run "$latin" --json
grep -q '^{"file":"caf.*","class":"class_' out || fail "a name that is not UTF-8 in JSON"
with spoilt && cp "$golden/images/half.jpg" spoilt/class_1/ && rm spoilt/class_1/*.ppm
begun=yes
train 3 'none of the 1 images of class "class_1" can be read' spoilt --val 0 --max-bad 1
begun=
row 5 "nowhere.jpg: cannot be opened: No such file" predict run nowhere.jpg
row 5 "nowhere.jpg: cannot be opened" predict run nowhere.jpg good/class_0/000.ppm
grep -q '^good/class_0/000.ppm: class_' out || fail "the others are not done"
row 3 "empty: no images in it" predict run empty

# ---- folders, pipes and links where files are wanted ----
mkfifo pipe pipe.ppm
ln -s loop loop
with odd && mkdir odd/class_0/folder.ppm && ln -s . odd/class_0/self &&
    ln -s loop.ppm odd/class_0/loop.ppm && mkfifo odd/class_0/pipe.ppm
train 0 "odd/class_0: 2 files are no images Thaw reads; left out" odd
printf 'path,label\ngood/class_0/000.ppm,a\nempty,a\npipe.ppm,b\ngood/class_1/000.ppm,b\n' >odd.csv
train 0 "empty: is a folder, a regular file is wanted" csv:odd.csv --val 0 --max-bad 1
train 0 "pipe.ppm: is a device or pipe, a regular file is wanted" csv:odd.csv --val 0 --max-bad 1
train 5 "Too many levels of symbolic links" loop
mkdir digits && mkfifo digits/train-images-idx3-ubyte
for pair in "pipe:is a device or pipe" "loop:Too many levels" "nowhere:No such file"; do
    path=${pair%%:*} phrase=${pair#*:}
    # shellcheck disable=SC2086 # a list of words
    row 5 "$phrase" train good -o new --weights "$path" $small
    row 5 "$phrase" train good -o new --config "$path"
    train 5 "$phrase" "csv:$path"
    row 5 "$path: " eval "$path" good
    row 5 "$path: " eval run "$path"
    row 5 "$phrase" predict "$path" good
    row 5 "$phrase" predict run "$path"
    row 5 "$phrase" inspect "$path"
    row 5 "$phrase" convert "$path" new.h5
    row 5 "$path: " resume "$path"
done
train 5 "is a device or pipe" idx:digits
# shellcheck disable=SC2086 # a list of words
row 2 "empty: a folder without best.h5" train good -o new --weights empty $small
row 2 "empty: a folder without best.h5" predict empty good
row 2 "empty: a folder without best.h5" convert empty new.h5
row 2 "empty: no run is here (it has no config.json)" resume empty
row 5 "good: is a folder, a regular file is wanted" train good -o new --config good

# ---- weights ----
# shellcheck disable=SC2086 # a list of words
weights() { # CODE phrase FILE: for each command that reads weights
    row "$1" "$2" train good -o new --epochs 1 --weights "$3" $small
    row "$1" "$2" predict "$3" good
    row "$1" "$2" eval "$3" good
    row "$1" "$2" inspect "$3"
}
head -c 20000 run/last.h5 >cut.h5
"$build/rename_layers" run/last.h5 renamed.h5 layer block || exit 1
: >nothing.h5
echo '<html>not found</html>' >page.pth
weights 3 "cut.h5: " cut.h5
row 3 "cut.h5: " convert cut.h5 new.h5
# shellcheck disable=SC2086 # a list of words
row 3 "layer1.0.conv1.weight" train good -o new --epochs 1 --weights renamed.h5 $small
row 3 "layer1.0.conv1.weight" predict renamed.h5 good --backbone resnet20
for use in "predict renamed.h5 good" "eval renamed.h5 good" "inspect renamed.h5"; do
    # shellcheck disable=SC2086 # a list of words
    row 3 "no known network has these tensors (the first of 97: conv1.weight); name it with --backbone" $use
done
weights 3 "it is empty" nothing.h5
weights 3 "it looks like a web page: the download went wrong" page.pth
for evil in evil.pth evil.th; do
    weights 3 ".system: refused, nothing was executed" "$golden/weights/$evil"
    row 3 "refused, nothing was executed" convert "$golden/weights/$evil" new.h5
    ! grep -q "must never run" out || fail "$evil ran a command"
done
row 3 "the head in the weights has 3 classes, the data 5: leave out --keep-head" \
    train five -o new --weights run --keep-head --image-size 8
row 0 "resnet20, " train good -o new --epochs 1 --weights run --image-size 8
row 0 "tensors, 3 classes -> run.h5" convert run run.h5
cmp -s run.h5 run/best.h5 || fail "convert RUN is not RUN/best.h5"
row 2 "run.h5 exists: choose another name" convert run run.h5
row 2 "new.txt: weights are written as .h5" convert run new.txt

# ---- where to write ----
row 2 "run exists: choose another folder, or go on with: thaw resume " train good -o run
train 2 "choose another" good -o run.h5
train 5 "run.h5/new" good -o run.h5/new
row 5 "nowhere/new.h5" convert run nowhere/new.h5
row 5 "nowhere: cannot be opened" convert idx:nowhere new

# ---- words ----
train 2 "did you mean" good --backbone resnet81
train 2 "unknown option --epoch; did you mean --epochs?" good --epoch 3
train 2 "--epochs: 'many' is not a whole number" good --epochs many
row 2 "unknown option --treads; did you mean --threads?" eval run good --treads 1
row 2 "unknown option --jason; did you mean --json?" predict run good --jason
row 2 "unknown command 'predikt'; did you mean 'predict'?" predikt run good

# ---- what only an ordinary user cannot do ----
if [ "$(id -u)" -ne 0 ]; then
    whoever=yes
elif setpriv --reuid 65534 --regid 65534 --clear-groups "$thaw" --version >/dev/null 2>&1; then
    whoever=yes as="setpriv --reuid 65534 --regid 65534 --clear-groups"
else
    whoever=
    echo "unreadable files and folders: not tested as root (no setpriv, or no way to $build)"
fi
if [ -n "$whoever" ]; then
    with closed && chmod 000 closed/class_1/001.ppm
    cp run.h5 closed.h5 && chmod 000 closed.h5
    mkdir read_only shut && chmod 555 read_only && chmod 000 shut
    mkdir -m 777 scratch && cd scratch || exit 1
    for link in good closed run closed.h5 read_only shut; do
        ln -s "../$link" .
    done
    train 0 "closed/class_1/001.ppm: cannot be opened: Permission denied; another image" closed --val 0
    row 5 "closed/class_1/001.ppm: cannot be opened: Permission denied" \
        predict run closed/class_1/001.ppm
    row 3 "closed/class_1/001.ppm: cannot be opened: Permission denied" predict run closed
    row 5 "closed.h5: cannot be opened: Permission denied" predict closed.h5 good
    # shellcheck disable=SC2086 # a list of words
    row 5 "closed.h5: cannot be opened: Permission denied" \
        train good -o new --weights closed.h5 $small
    train 5 "shut: cannot be opened: Permission denied" shut
    train 5 "read_only/new: the folder cannot be made: Permission denied" good -o read_only/new
    train 5 "read_only: cannot write here: Permission denied" good -o read_only
    row 5 "read_only/new.h5" convert run read_only/new.h5
    cd ..
fi

echo "$rows rows, $failures failed"
[ "$failures" -eq 0 ]
