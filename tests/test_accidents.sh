#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What happens to a run from outside: a full disk, a second process, a reader that leaves, a
# signal too early, data that change under it.  Usage: test_accidents.sh BUILD_DIR
faults=$(cd "$(dirname "$0")/faults" && pwd)
. "$(dirname "$0")/cli.sh"
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0"

expect() { # CODE "what holds" command...: keeps out and err
    want=$1 what=$2
    shift 2
    checks=$((checks + 1)) code=0
    timeout 60 "$@" >out 2>err </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$what (exit code $code, not $want)"
}
plain_metrics() { # without what depends on the clock
    sed -E 's/,"(images_per_s|(forecast_)?(seconds|peak_bytes))":[^,}]*//g' "$1/metrics.jsonl"
}
same_run() { # A B
    plain_metrics "$1" >metrics_a
    plain_metrics "$2" >metrics_b
    check "$1 and $2: the same bits" \
        sh -c "cmp $1/last.h5 $2/last.h5 && cmp $1/best.h5 $2/best.h5 && cmp metrics_a metrics_b"
}

"$build/make_images" good 3 10 8 || exit 1
small="--weights random --backbone resnet20 --image-size 8 --batch 4 --threads 1 --workers 1 --log-every 1"
# shellcheck disable=SC2086 # a list of words
train() { # CODE "what holds" DATA RUN options...
    code_=$1 what_=$2 data_=$3 run_=$4
    shift 4
    expect "$code_" "$what_" "$thaw" train "$data_" -o "$run_" $small "$@"
}
# stopped_by RUN N CALLS options...: in the background, a run that stops itself (SIGSTOP) at
# its N-th call of that kind; its process is $pid.
# shellcheck disable=SC2086 # a list of words
stopped_by() {
    run_=$1 n_=$2 calls_=$3
    shift 3
    THAW_FAULT="$work/$run_:stop:$n_:$calls_" LD_PRELOAD="$build/libfaults.so" "$thaw" train good \
        -o "$work/$run_" $small "$@" >out_1 2>err_1 </dev/null &
    pid=$!
    for _ in $(seq 600); do
        case $(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null) in
        T) return ;;
        '' | Z) break ;;
        esac
        sleep 0.05
    done
    cp err_1 err
    fail "$run_ never came to its call $n_ of $calls_"
}

# ---- a reader that leaves; a signal before there is a run ----
train 0 "a run" good run --epochs 2
"$thaw" predict run good --json 2>err | head -n 1 >out
check "one line was read" [ "$(wc -l <out)" -eq 1 ]
check "and the writer is quiet" [ ! -s err ]
# shellcheck disable=SC2086 # a list of words
THAW_FAULT="$work/good:interrupt:3:list" LD_PRELOAD="$build/libfaults.so" \
    sh -c 'trap - INT; exec "$@"' sh "$thaw" train "$work/good" -o early $small >out 2>err
code=$?
check "SIGINT while the data are listed ends with 130 (exit code $code)" [ "$code" -eq 130 ]
check "and nothing is left" [ ! -e early ]

# ---- two processes in one folder ----
stopped_by shared 3 rename --epochs 2 # best.h5, after classes.txt and config.json
train 2 "a second train in the same folder is refused" good shared
expect 2 "so is a resume, which says by whom" "$thaw" resume shared
says "shared: process $pid is training here; wait for it, stop it, or choose another folder"
kill -CONT "$pid"
wait "$pid"
check "the first goes on (exit code $?)" [ -s shared/last.h5 ]
same_run shared run
stopped_by held 1 rename --epochs 2
train 2 "also one that has no config.json yet" good held
says "held: process $pid is training here"
kill -9 "$pid"
wait "$pid" 2>/dev/null
train 0 "a folder whose first process was killed before config.json was there is free" \
    good held --epochs 2
same_run held run

# ---- a full disk ----
# full KILOBYTES command...: with ./disk as a file system of that size
cat >full <<'EOF'
exec unshare -rm sh -c 'mount -t tmpfs -o size="$1"k tmpfs disk && shift && "$@"' sh "$@"
EOF
mkdir disk
if sh full 100 true 2>/dev/null; then
    # shellcheck disable=SC2086 # a list of words
    expect 5 "too small a disk is told before anything is computed" \
        sh full 1000 "$thaw" train good -o disk/run $small
    says "disk/run: best.h5 and last.h5 need "
    says " are free; make room or choose another disk"
    # shellcheck disable=SC2086 # a list of words
    expect 5 "and leaves no folder" sh full 1000 sh -c "$thaw train good -o disk/run $small; code=\$?
        [ -e disk/run ] && exit 99; exit \$code"
    # shellcheck disable=SC2086 # a list of words
    expect 0 "a disk for the models but not for the checkpoints trains all the same" \
        sh full 4200 sh -c "$thaw train good -o disk/run $small --thaw all --ema 0.9 --epochs 3 &&
            head -c 100 disk/run/last.h5 >/dev/null"
    says "needed for checkpoints and models"
    # shellcheck disable=SC2086 # a list of words
    expect 5 "a disk that another fills meanwhile: the final models are missed" \
        sh full 9000 sh -c "$thaw train good -o disk/run $small --epochs 2 >/dev/null 2>&1
            head -c 20000000 /dev/zero >disk/ballast 2>/dev/null
            rm disk/run/last.h5; head -c 20000000 /dev/zero >disk/more 2>/dev/null
            $thaw resume disk/run; code=\$?
            [ \$code -eq 5 ] || exit 98
            rm disk/ballast disk/more
            $thaw resume disk/run 2>/dev/null && [ -s disk/run/last.h5 ] && exit 5; exit 97"
    says "bytes needed"
    expect 5 "convert says what is needed" sh full 500 "$thaw" convert run disk/model.h5
    says "bytes needed"
    expect 5 "and leaves no part of the file" sh full 500 sh -c \
        "$thaw convert run disk/model.h5; code=\$?; ls -A disk | grep . && exit 99; exit \$code"
else
    echo "a full disk: not tested (no private mounts here); a file limit is"
fi
expect 5 "a file limit is an error, not the end of the process" \
    sh -c "ulimit -f 200; exec $thaw convert run limited.h5"
says "limited.h5: cannot be written: File too large"
check "and leaves no part of the file" \
    sh -c '[ ! -e limited.h5 ] && ! ls -A | grep -q "limited.*tmp"'

# ---- data that change ----
lines() { # of unreadable.txt
    cat "$1/unreadable.txt" 2>/dev/null | wc -l
}
# altered RUN 'commands that change ./moving' options...: the run stops after its listing
altered() {
    run_=$1 commands_=$2
    shift 2
    rm -rf moving
    cp -r good moving
    # shellcheck disable=SC2086 # a list of words
    THAW_FAULT="$work/$run_:stop:1:mkdir" LD_PRELOAD="$build/libfaults.so" "$thaw" train moving \
        -o "$work/$run_" $small --val 0 --augment none --epochs 2 "$@" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 600); do
        case $(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null) in T | Z | '') break ;; esac
        sleep 0.05
    done
    (cd moving && eval "$commands_")
    kill -CONT "$pid"
    code=0
    wait "$pid" || code=$?
    what="$run_: $commands_"
}
# changed RUN 'commands' "phrase": one image is no longer what it was
changed() {
    altered "$1" "$2" --max-bad 0.05
    check "$what: the run ends well" [ "$code" -eq 0 ]
    says "$3"
    says "; another image of its class stands in"
    check "$what: said once" [ "$(grep -c "class_1/004.ppm" err)" -eq 1 ]
    check "$what: one line in unreadable.txt" [ "$(lines "$1")" -eq 1 ]
}
changed vanished "rm class_1/004.ppm" "class_1/004.ppm: cannot be opened: No such file"
changed shorter "head -c 50 class_1/005.ppm >class_1/004.ppm" "changed since it was listed: "
changed rewritten "cp class_0/000.ppm class_1/004.ppm" "changed since it was listed (written again)"
changed folder "rm class_1/004.ppm; mkdir class_1/004.ppm" "class_1/004.ppm: "
changed piped "rm class_1/004.ppm; mkfifo class_1/004.ppm" "class_1/004.ppm: "
altered added "cp class_0/000.ppm class_1/new.ppm; mkdir class_9"
check "a file that came later is no matter" [ "$code" -eq 0 ]
altered none_allowed "rm class_1/004.ppm" --max-bad 0
check "--max-bad 0 allows none (exit code $code)" [ "$code" -eq 3 ]
says "1 of 30 images cannot be read, more than the 0 that --max-bad allows"
altered two "rm class_1/004.ppm class_0/004.ppm" --max-bad 0.05
check "--max-bad 0.05 of 30 allows one, not two (exit code $code)" [ "$code" -eq 3 ]
says "2 of 30 images cannot be read, more than the 1 that --max-bad allows"
altered exactly "rm class_1/004.ppm class_0/004.ppm class_2/004.ppm" --max-bad 0.1
check "--max-bad 0.1 of 30 allows three (exit code $code)" [ "$code" -eq 0 ]
altered all_gone "rm class_*/*" --max-bad 1
check "--max-bad 1 cannot help where a class has none left (exit code $code)" [ "$code" -eq 3 ]
says 'images of class "class_'
altered default "rm class_1/004.ppm"
check "the default allows one image of 30 (exit code $code)" [ "$code" -eq 0 ]

# ---- other data at resume ----
rm -rf moving && cp -r good moving
train 0 "a run to go on with" moving later --epochs 1
rm moving/class_1/004.ppm
expect 3 "resume refuses other data" "$thaw" resume later --epochs 2
says "moving: its images are no longer those that the run began with"
cp good/class_1/004.ppm moving/class_1/
expect 0 "and takes them when they are back" "$thaw" resume later --epochs 2

# ---- killed again and again (tests/faults/kills.sh N does it N times) ----
expect 0 "killed at random moments a run ends with the same bits" \
    sh "$faults/kills.sh" "$build" 5

finish
