#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The program from outside: arguments, exit codes, streams, JSON, and that a killed run
# goes on bit for bit.  Usage: test_cli.sh BUILD_DIR
. "$(dirname "$0")/cli.sh"

# ---- arguments ----
expect 2 "no command is a usage error"
says "usage: thaw COMMAND"
expect 0 "help lists the commands" help
prints '^  predict +the class of images'
expect 0 "--help is help" --help
prints '^  train '
expect 0 "--version tells the version" --version
prints '^thaw [0-9]+\.[0-9]+\.[0-9]+$'
expect 2 "a mistyped command gets the nearest" trian x
says "unknown command 'trian'; did you mean 'train'?"
expect 2 "a command of a later version says so" advise d
says "not in this version yet: thaw advise"
for c in train resume eval predict inspect convert merge bench list doctor tune features score check help; do
    expect 0 "$c --help shows its usage" "$c" --help
    prints "^usage: thaw $c|^usage: thaw COMMAND"
done
expect 2 "a mistyped option gets the nearest" train d -o r --epoch 3
says "unknown option --epoch; did you mean --epochs?"
expect 2 "a bad number is named" train d -o r --epochs ten
says "--epochs: 'ten' is not a whole number from 0"
expect 2 "a number outside its range is named" train d -o r --batch=0
says "--batch: 0 is outside 1 to 65536"
expect 2 "an option without its value is named" train d -o r --lr
says "--lr wants a value"
expect 2 "an option is no value" train d -o r --weights --quiet
says "--weights wants a value (FILE), not '--quiet'"
expect 2 "another command's option is named" predict m i --lr 1
says "thaw predict does not take --lr (thaw train does)"
expect 2 "train wants data" train -o r
says "train wants DATA"
expect 2 "train wants a run folder" train d
says "train wants -o RUN"
expect 2 "missing arguments are named" predict m
says "thaw predict wants MODEL"
expect 2 "an argument too many is named" inspect m n
says "one argument too many: 'n'"
expect 0 "backbones are listed" list backbones
prints '^resnet18 '
prints '^resnet20 '
expect 0 "heads are listed" list heads
prints '^classify '
expect 0 "formats are listed" list formats
prints '^folder '
expect 2 "an unknown list gets the nearest" list backbone
says "did you mean backbones?"
expect 0 "doctor describes the machine" doctor
prints '^thaw +[0-9]'
prints '^speed +matrix product [0-9.]+ GF/s \(one thread [0-9.]+\), memory [0-9.]+ GB/s'
expect 0 "doctor --json prints one object" doctor --json
prints '^\{"thaw":"[0-9.]+","cpu":".*"flops_per_s":[0-9.e+]+,.*"bytes_per_s":[0-9.e+]+,.*\}$'
expect 0 "doctor at the least instruction set" doctor --isa base
prints "^device .* base, |plain C"
expect 2 "an instruction set that is none" doctor --isa avx3
expect 2 "an instruction set of plain C" doctor --device ref --isa base
expect 0 "the man page covers every command" help --man
prints '^\.SH EXIT STATUS'
"$thaw" help --completion bash >completion
if command -v bash >/dev/null; then
    check "the completion is sound bash" bash -n completion
fi
check "results that cannot be written are exit code 5" \
    sh -c "[ -c /dev/full ] || exit 0; '$thaw' list backbones >/dev/full 2>err; [ \$? -eq 5 ]"

# ---- a tiny run ----
"$build/make_images" images 3 10 8 || exit 1
common="--batch 8 --lr 0.05 --log-every 1 --workers 2 --threads 2"
small="--weights random --backbone resnet20 --image-size 8 --thaw all $common"
# shellcheck disable=SC2086 # a list of words
tiny() {
    expect "$1" "$2" train images -o "$3" $small "$4" "$5" ${6:+"$6"}
}
tiny 0 "a tiny run trains" run --epochs 2
prints '^frozen '
prints '^best '
says "data "
check "no escapes where there is no terminal" sh -c "! grep -q \"\$(printf '\033')\" out err"
for f in config.json metrics.jsonl classes.txt best.h5 last.h5 report.html; do
    check "the run folder has $f" [ -s "run/$f" ]
done
check "and events for TensorBoard" sh -c "ls run/events.out.tfevents.*.00"
check "the end is the last line of the metrics" \
    sh -c "tail -n 1 run/metrics.jsonl | grep -q '^{\"event\":\"end\".*\"frozen_verified\":true'"
check "each epoch has a line" [ "$(grep -c '"event":"epoch"' run/metrics.jsonl)" -eq 2 ]
check "steps are counted from 1" sh -c "grep -q '\"event\":\"step\",\"epoch\":0,\"step\":1,' run/metrics.jsonl"
check "classes are the folders in byte order" \
    [ "$(tr '\n' ' ' <run/classes.txt)" = "class_0 class_1 class_2 " ]
tiny 2 "a run folder is never overwritten" run --epochs 1
says "run"
expect 0 "the config runs again" train --config run/config.json -o again
check "the same config gives the same bits" cmp run/last.h5 again/last.h5
tiny 0 "other loader threads give the same bits" workers --epochs=2 --workers=4 --quiet
check "--quiet leaves stderr empty" [ ! -s err ]
check "last.h5 is the same for 2 and 4 workers" cmp run/last.h5 workers/last.h5
tiny 0 "--json prints one object" json --epochs 1 --json
prints '^\{"event":"end","run":"json","best_top1":[0-9.]+,.*"frozen_verified":true,"stopped":false\}$'
check "and nothing else on stdout" [ "$(wc -l <out)" -eq 1 ]

# ---- using the model ----
expect 0 "predict names a class" predict run images/class_0/000.ppm
prints '^images/class_0/000.ppm: class_[012] [0-9.]+ %'
# shellcheck disable=SC2086 # a list of words
expect 0 "a second head trains on its backbone" train images -o tags --weights run/best.h5 \
    --head multilabel --epochs 1 $common
expect 0 "both predict" predict run,tags images/class_1 --json
check "ten images, two heads" [ "$(wc -l <out)" -eq 20 ]
prints '^\{"file":"images/class_1/000.ppm","model":"run","class":'
prints '^\{"file":"images/class_1/000.ppm","model":"tags","class":.*"labels":\['
check "on one backbone" [ ! -s err ]
expect 0 "a model with another backbone predicts beside them" predict run,json images/class_0/000.ppm
says "json/best.h5: conv1.weight is not as in run/best.h5"
prints '^images/class_0/000.ppm \(json\): class_'
expect 5 "a model that is not there is named" predict run,nowhere images/class_0/000.ppm
says "nowhere"
"$thaw" predict run images 2>err | : # the reader leaves at once
check "a reader that left is not worth a sentence" [ ! -s err ]
expect 0 "predict --json prints an object an image" predict run images/class_1 --json
check "ten of them" [ "$(wc -l <out)" -eq 10 ]
number='-?[0-9.]+(e-?[0-9]+)?'
three="\[$number,$number,$number\]"
prints "^\{\"file\":\"images/class_1/000.ppm\",\"class\":\"class_[012]\",\"probability\":$number,\"probabilities\":$three,\"logits\":$three\}\$"
echo "no image" >broken.jpg
expect 3 "an unreadable image is named, the others are done" \
    predict run broken.jpg images/class_0/000.ppm
says "broken.jpg"
check "once" [ "$(grep -o "broken.jpg" err | wc -l)" -eq 1 ]
prints '^images/class_0/000.ppm: '
expect 0 "eval prints a table" eval run images
prints '^top-1 +[0-9.]+ % \([0-9.]+ to [0-9.]+\)$'
prints '^ECE +[0-9.]+ %$'
prints '^macro +[0-9.]+ % +[0-9.]+ % +[0-9.]+$'
prints '^class_2 +10 '
expect 0 "eval --json prints one object" eval run images --json
prints '^\{"images":30,"unreadable":0,"loss":[0-9.e-]+,"top1":[0-9.]+,"top5":1,"classes":\["class_0","class_1","class_2"\],"confusion":\[\[[0-9]+,'
prints '"top1_interval":\[[0-9.]+,[0-9.]+\],"balanced_accuracy":[0-9.]+,"ece":[0-9.]+,"macro":\{"precision":'
cp out first
expect 0 "eval runs again" eval run images --json
check "the same evaluation has the same interval" cmp out first
says "30 images (all of it)"
mkdir split && cp -r images split/train && cp -r images split/test
expect 0 "without validation images the training images are evaluated" eval run split
says "30 images (train)"
expect 0 "inspect describes the model and the plan" inspect run --thaw head
expect 0 "inspect --json prints one object" inspect run --thaw '0:head 1:all' --json
prints '^\{"model":"run.best.h5","backbone":"resnet20",.*"epoch":1,"thaw":"all",.*\}$'
prints '"macs":[1-9][0-9]*,"moved_bytes":[1-9][0-9]*,"saved_bytes":[0-9]+,"arena_bytes":'
prints '"op":"conv","name":"[^"]+","macs":[0-9]+,"bytes":[0-9]+,"kernel":\[3,3\],"stride":'
expect 0 "inspect --json of a plan without derived steps" inspect run --thaw all --bn train --json
for sum in macs/macs moved_bytes/bytes; do
    check "its ${sum#*/} add up" awk -v RS=, -F: -v total="\"${sum%/*}\"" -v part="\"${sum#*/}\"" '
        $1 == total && !all { all = $2; next } $1 == part { found += $2 }
        END { exit !(all > 0 && all == found) }' out
done
expect 0 "inspect --time says where the time goes" inspect run --thaw head --time 1
prints 'where the time goes'
prints '^  conv  *19 steps '
expect 0 "inspect --time --json" inspect run --thaw head --time 1 --json
prints '"seconds":'
expect 0 "a model file is a model too" predict run/last.h5 images/class_0/000.ppm
expect 2 "only what a detector finds can be drawn" predict run images/class_0 --draw drawn
says "run is no detector: it finds nothing for --draw"
check "and no folder is left" [ ! -e drawn ]
expect 2 "images have no splits" predict run images/class_0 --split test
says "--split: images/class_0 is images"

# ---- adapting ----
expect 2 "adapt wants a model to write" adapt run images
says "thaw adapt wants -o OUT.h5"
expect 0 "adapt fits statistics to images" adapt run images -o adapted.h5
prints '^adapted +19 BatchNorms to 30 images: .* -> adapted.h5$'
expect 2 "adapt overwrites nothing" adapt run images -o adapted.h5
says "adapted.h5 exists"
expect 0 "adapt again, for a program" adapt run images -o again.h5 --workers 4 --json
prints '^\{"model":"again.h5","images":30,"unreadable":0,"layers":19,"passes":19,"shift":[0-9.]+,'
check "any number of workers gives the same model" cmp adapted.h5 again.h5
expect 0 "what was adapted predicts" predict adapted.h5 images/class_0/000.ppm
expect 0 "and says what it was made from" inspect adapted.h5
prints '^data [0-9a-f]{16}: trained on 24 images, 6 to validate'
prints '^BatchNorm statistics adapted to data [0-9a-f]{16}$'
cp -r images/class_0 of:today
expect 0 "a folder is a folder whatever its name" adapt run of:today -o colon.h5
prints '^adapted +19 BatchNorms to 10 images: '

# ---- a share of the cores ----
first=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\).*/\1/p' /proc/self/status)
if command -v taskset >/dev/null; then
    code=0
    taskset -c "$first" "$thaw" train images -o r_one --weights random --backbone resnet20 --image-size 8 \
        --thaw all --epochs 1 --val 0 --quiet >out 2>err </dev/null || code=$?
    check "a run on one core trains" [ "$code" -eq 0 ]
    check "with one thread" grep -Eq '"threads": *"?1"?[,}]?$' r_one/config.json
fi

# ---- names of somebody else's making ----
odd=$(printf 'b\033[31mx')
cp -r images odd && mv odd/class_1 "odd/$odd"
expect 0 "a class name cannot steer the terminal" train odd -o r_odd --weights random \
    --backbone resnet20 --image-size 8 --thaw all --epochs 1 --val 0
expect 0 "nor in a prediction" predict r_odd "odd/$odd"
prints 'b\?\[31mx/'
expect 0 "nor in a table" eval r_odd odd
check "no escape is printed" sh -c '! grep -q "$(printf "\033")" out err'

# ---- bad input ----
cp -r images spoilt
echo "no image" >spoilt/class_1/000.ppm
expect 0 "one unreadable image does not end a run" train spoilt -o r0 --weights random \
    --backbone resnet20 --image-size 8 --thaw "0:head 1:all" --epochs 3 --val 0
prints "to the end of epoch 1: 95 tensors, verified unchanged"
prints "0 tensors, verified unchanged over the whole run"
check "it is named once" [ "$(grep -c class_1/000.ppm err)" -eq 1 ]
check "and listed in the run folder" grep -q "spoilt/class_1/000.ppm	" r0/unreadable.txt
expect 2 "a new head of which a part never trains is an error" train images -o r1 \
    --weights random --backbone resnet20 --image-size 8 --thaw bias
says "never trains linear.weight of the head"
mkdir empty
expect 3 "an empty folder is bad data" train empty -o r1 --weights random --backbone resnet20
says "empty"
check "no run folder is left of it" [ ! -e r1 ]
expect 5 "data that is not there is named" train nowhere -o r1 --weights random --backbone resnet20
says "nowhere"
expect 2 "an unknown backbone gets the nearest" train images -o r1 --weights random --backbone resnet81
says "resnet18"
expect 2 "weights must be named" train images -o r1 --backbone resnet18
says "--weights"
expect 2 "a thaw pattern that matches nothing is an error" \
    train images -o r1 --weights random --backbone resnet20 --image-size 8 --thaw stage9,head
says "stage"
"$build/make_images" five 5 4 8
expect 3 "a kept head must have the data's classes" \
    train five -o r1 --weights run/last.h5 --keep-head --image-size 8
says "class"
expect 2 "a head that nothing trains is an error" \
    train five -o r1 --weights run/last.h5 --image-size 8 --thaw stage3
says ",head"
expect 2 "resume wants a run" resume empty
says "empty"

# ---- killed and stopped runs ----
plain_metrics() { # without what depends on the clock
    sed -E 's/,"(images_per_s|(forecast_)?(seconds|peak_bytes))":[^,}]*//g' "$1/metrics.jsonl"
}
same_run() {
    check "$2: last.h5 is bit-identical" cmp "$1/last.h5" whole/last.h5
    check "$2: best.h5 is bit-identical" cmp "$1/best.h5" whole/best.h5
    plain_metrics "$1" >metrics_a
    plain_metrics whole >metrics_b
    check "$2: metrics.jsonl is the same" cmp metrics_a metrics_b
}
# A run that thaws more and more of the network that `run` left, to be killed.
timetable="0:head 1:stage3,head 3:all"
# start RUN, until its metrics have so many lines; its process is $pid.
start() {
    # shellcheck disable=SC2086 # a list of words
    "$thaw" train images -o "$1" --weights run/last.h5 $common --epochs 4 --thaw "$timetable" \
        >out 2>err </dev/null &
    pid=$!
    tries=0
    until [ "$(wc -l 2>/dev/null <"$1/metrics.jsonl" || echo 0)" -ge "$2" ]; do
        kill -0 "$pid" 2>/dev/null || break
        tries=$((tries + 1))
        [ "$tries" -lt 6000 ] || break
        sleep 0.01
    done
}
# shellcheck disable=SC2086 # a list of words
expect 0 "the whole run" train images -o whole --weights run/last.h5 $common --epochs 4 \
    --thaw "$timetable"
for lines in 1 5 11; do
    start "killed_$lines" "$lines"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    if [ "$(tail -n 1 "killed_$lines/metrics.jsonl" | grep -c '"event":"end"')" -eq 0 ]; then
        expect 0 "a run killed at line $lines goes on" resume "killed_$lines"
    fi
    same_run "killed_$lines" "killed at line $lines"
done
for signal in INT TERM; do
    start "stopped_$signal" 2 # early: on a busy machine the signal comes late
    kill -"$signal" "$pid" 2>/dev/null
    code=0
    wait "$pid" || code=$?
    [ "$signal" = INT ] && want=130 || want=143
    check "SIG$signal saves and exits with $want (exit code $code)" [ "$code" -eq "$want" ]
    check "and says how to go on" grep -qF "resume with: thaw resume stopped_$signal" err
    expect 0 "a run stopped by SIG$signal goes on" resume "stopped_$signal"
    same_run "stopped_$signal" "stopped by SIG$signal"
done
# ---- tables of convolutions ----
tune="tune --backbone resnet20 --image-size 8 --batch 4 --threads 2"
# shellcheck disable=SC2086
expect 0 "tune writes a table" $tune -o table.json
prints '^conv_dw +64 x +2x2 +-> +64 .* GF/s: [a-z-]+$'
# shellcheck disable=SC2086
expect 2 "and never over one" $tune -o table.json
# shellcheck disable=SC2086
expect 0 "training by it" train images -o tuned $small --epochs 1 --conv-table table.json
for file in config.json metrics.jsonl; do
    check "$file has its hash" grep -qE '"conv[a-z-]+": ?"([a-z0-9]+, )?[0-9a-f]{16}"' tuned/$file
done
expect 0 "a resume by another one" resume tuned --epochs +1 --conv-table built-in
says "built-in, until now by"
says "bits may differ"
echo '{"thaw_conv_table":1}' >bad.json
# shellcheck disable=SC2086
expect 3 "what is no table" train images -o untuned $small --conv-table bad.json
says "bad.json: not a table of convolutions"
# shellcheck disable=SC2086
expect 5 "a table that is not there" train images -o untuned $small --conv-table none.json

expect 0 "a finished run can be given more epochs" resume json --epochs +1
check "two epochs in all" [ "$(grep -c '"event":"epoch"' json/metrics.jsonl)" -eq 2 ]

expect 2 "but not fewer than it has done" resume json --epochs 1
says "--epochs 1: the run is already in epoch 2"
expect 0 "and is as it was after that" resume json
# shellcheck disable=SC2086 # a list of words
expect 0 "patience ends a run that gets no better" train images -o patient $small --lr 0 \
    --bn frozen --epochs 5 --patience 1
check "after two epochs" [ "$(grep -c '"event":"epoch"' patient/metrics.jsonl)" -eq 2 ]
expect 0 "and resuming it says why nothing is trained" resume patient --epochs +1
says "--patience 1 has ended the run"
tiny 0 "patience without validation has nothing to wait for" blind --epochs=1 --val=0 --patience=1
says "warning   --patience 1 has no effect"

finish
