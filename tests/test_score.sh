#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# thaw score from outside: table and JSON, several weight files and `random`, the same
# output twice, refusals; with real photographs (THAW_TEST_ASSETS) pretrained weights
# stand above random ones by every score.  Usage: test_score.sh BUILD_DIR
source=$(cd "$(dirname "$0")/.." && pwd)
. "$(dirname "$0")/cli.sh"
weights=$source/examples/weights/resnet20-cifar10.h5

# score CODE "what holds" arguments...
score() {
    want=$1 what=$2 code=0
    shift 2
    "$thaw" score "$@" --threads 1 >out 2>err </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$what (exit code $code, not $want)"
}
# value KEY LINE: a number of the JSON object in that line of out
value() { sed -n "$2s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" out; }

# Three classes of 10, 7 and 2 images that can be told apart, and validation images that
# cannot be read: nobody may look at them.
mkdir data && "$build/make_images" data/train 3 10 24 || exit 1
rm data/train/class_1/00[789].ppm data/train/class_2/00[2-9].ppm
mkdir -p data/val/class_0 data/val/class_1 data/val/class_2
for c in 0 1 2; do echo "no image" >data/val/class_$c/x.png; done

score 0 "files and random values in one table" data --weights "$weights" random
prints '^   weights +network +px +images +values +logme +h_score +h_score_shrunk +leep +knn +probe$'
prints "^ 1 $weights +resnet20 +32 +19 +64 .*\(1\).*% \(1\)"
prints '^ 2 random +resnet20 +32 +19 +64 .* - '
says "3 classes; 19 training images"
[ "$(wc -l <out)" -eq 3 ] || fail "$what: not three lines"

score 0 "JSON is a line a file" data --weights random --weights "$weights" --json --quiet
[ "$(wc -l <out)" -eq 2 ] || fail "$what: not two lines"
for key in logme h_score h_score_shrunk knn probe; do
    best=$(value $key 1) floor=$(value $key 2)
    awk "BEGIN { exit !($best >= $floor && $best - $best == 0) }" || fail "$key: $best, random $floor"
done
prints '"weights":"random".*"leep":null,"leep_rank":null'
awk "BEGIN { l = $(value leep 1); exit !(l < 0 && l > -1.1) }" || fail "leep is no log of a probability above chance"
sed 's/,"feature_seconds.*//' out >first
score 0 "commas, another order of words: the same numbers" data --weights "$weights,random" --json --quiet
sed 's/,"feature_seconds.*//' out | cmp -s - first || fail "$what"
score 0 "so many images, of each class its share" data --weights "$weights" --max-images 8 --json --quiet
prints '"images":8,' # 10, 7 and 2 of 19 by 8 of 19: 4, 2 and, at least, 2
score 0 "another size" data --weights "$weights" --image-size 24 --json --quiet
prints '"image_size":24,'

# ---- refusals ----
score 2 "no weights" data
says "no weights were given: --weights FILE"
score 5 "a mistyped file is found before the first is computed" data --weights "$weights" none.h5
[ -s out ] && fail "$what: something was printed"
says "none.h5"
grep -q "19 training images" err && fail "$what: after the data was read"
score 5 "no such data" nowhere --weights "$weights"
score 2 "another command's option" data --weights "$weights" --lr 1
head -c 1000 "$weights" >torn.h5
score 3 "a torn file" data --weights torn.h5
says "torn.h5"
score 2 "an unknown network" data --weights "$weights" --backbone resnet2
says "did you mean"
score 3 "another network than the file's" data --weights "$weights" --backbone resnet18
mkdir -p one/train && cp -r data/train/class_0 one/train/
score 3 "one class" one --weights "$weights"
says 'only one class, "class_0"'
rm data/train/class_2/001.ppm
score 3 "a class with one image" data --weights "$weights"
says 'class "class_2" has one image to train on'
echo "no image" >data/train/class_2/001.ppm
score 3 "unreadable images beyond --max-bad" data --weights "$weights" --max-bad 0
score 3 "a class with one image that can be read" data --weights "$weights" --max-bad 0.5
says 'class "class_2" has one image to train on'
rm -r data/train/class_2 data/val/class_2
echo "no image" >data/train/class_1/000.ppm
score 0 "an unreadable image is left out" data --weights "$weights" --max-bad 0.5 --json
prints '"images":16,"unreadable":1,'
says "000.ppm"
ls | grep -qvE '^(data|one|out|err|first|torn.h5)$' && fail "something was written"

# ---- real photographs ----
if [ -n "${THAW_TEST_ASSETS:-}" ]; then
    tar xzf "$THAW_TEST_ASSETS/data/flowers-5class-800.tar.gz"
    score 0 "flowers" flowers --json --weights random "$weights" \
        "$THAW_TEST_ASSETS/weights/cifar10-resnet20-12fca82f.th" \
        "$THAW_TEST_ASSETS/weights/mlperf-tiny-resnet8-cifar10.keras.h5"
    grep "keras.h5: resnet8, .*std 0.00392" err | grep -q assumed &&
        fail "$what: what Keras's ResNet-8 wants is known, not assumed"
    grep "12fca82f.th: resnet20" err | grep -q "(assumed" || fail "$what: .th says nothing"
    for key in logme h_score h_score_shrunk knn probe; do
        grep '"weights":"random"' out | grep -q "\"${key}_rank\":4" || fail "flowers: random is not last by $key"
    done
else
    echo "real photographs skipped: THAW_TEST_ASSETS does not name the folder"
fi

finish
