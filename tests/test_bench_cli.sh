#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# thaw bench from outside: table, JSON and page; stopped and killed benches go on to the same
# result; a training that fails is a row; what is given by mistake.  Usage: test_bench_cli.sh BUILD_DIR
. "$(dirname "$0")/cli.sh"

expect() { # CODE "what holds" arguments...: keeps out and err
    want=$1 what=$2
    shift 2
    checks=$((checks + 1)) code=0
    timeout -k 5 120 "$thaw" "$@" >out 2>err </dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "$what (exit code $code, not $want)"
}

mkdir data
"$build/make_images" data/train 3 20 8 && "$build/make_images" data/test 3 2 8 || exit 1
base="--weights random --backbone resnet20 --image-size 8 --crop 1 --batch 8 --epochs 2 --lr 0.05 --threads 1 --workers 1"
bench() { # CODE "what holds" DIR options...
    code_=$1 what_=$2 dir_=$3
    shift 3
    # shellcheck disable=SC2086 # a list of words
    expect "$code_" "$what_" bench data -o "$dir_" $base "$@"
}
timeless() { # bench.json without what depends on the clock, the memory and the folder
    sed -E 's/,"(seconds|peak_bytes|fast|small|cheapest|model)":[^,}]*//g' "$1/bench.json"
}
ended() { # a process; one that nobody has waited for has ended too
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*zombie' "/proc/$1/status"
}
tags_balance() { # opened as often as closed
    for tag in html head body main table tr td figure svg p code ul li; do
        opened=$(grep -oE "<$tag[ >]" "$1" | wc -l) closed=$(grep -o "</$tag>" "$1" | wc -l)
        [ "$opened" -eq "$closed" ] || { echo "$tag: $opened opened, $closed closed"; return 1; }
    done
}

# ---- one whole bench ----
bench 0 "two strategies, two seeds" whole --strategies head,all --seeds 2 --no-halving
prints '^(head|all) .* 2  winner$'
prints '^(head|all) .* 2  kept$'
prints '^winner    (head|all): thaw train '
prints '^test      .* of 6 images, with that model, once$'
check "four trainings have ended" [ "$(ls whole/runs/*.result.json | wc -l)" -eq 4 ]
check "all trainings have the same validation images" \
    [ "$(sed -n 's/.*"data_fingerprint":"\([^"]*\)".*/\1/p' whole/runs/*/metrics.jsonl | sort -u | wc -l)" -eq 1 ]
check "no training looked at the test images" [ ! -e whole/runs/head-seed0/test.json ]
check "the page's tags balance" tags_balance whole/bench.html
check "the page has two charts and no script" \
    sh -c '[ "$(grep -o "<svg" whole/bench.html | wc -l)" -eq 2 ] && ! grep -qi "<script" whole/bench.html'
if command -v python3 >/dev/null; then
    check "bench.json is JSON and has both" python3 -c '
import json, math
b = json.load(open("whole/bench.json"))
assert [r["state"] for r in b["rows"]] == ["winner", "kept"], b
assert {r["strategy"] for r in b["rows"]} == {"head", "all"} and b["test"]["images"] == 6
for r in b["rows"]:  # the accuracies are those that the trainings themselves logged
    logs = ["whole/runs/%s-seed%d/metrics.jsonl" % (r["strategy"], s) for s in (0, 1)]
    best = [json.loads(open(log).readlines()[-1])["best_top1"] for log in logs]
    assert math.isclose(r["top1"], sum(best) / 2, rel_tol=1e-8), (r, best)
    assert r["peak_bytes"] > 1e6 and r["seconds"] > 0'
fi
bench 0 "the same command again trains nothing" whole --strategies head,all --seeds 2 --no-halving --json
check "--json prints bench.json" sh -c 'cat out | tr -d "\n" | cmp -s - whole/bench.json'
bench 0 "a strategy more reuses what is there" whole --strategies head,all,bias --seeds 2 --no-halving --no-test
check "only the new one was trained" [ "$(ls whole/runs/*.result.json | wc -l)" -eq 6 ]
bench 2 "other options are refused" whole --strategies head,all --seeds 2 --momentum 0.5
says "head-seed0.json: --momentum is 0.5 in this bench, and was 0.9 when it began"
bench 0 "the winner's command" whole --strategies head,all --seeds 2 --no-halving
winner=$(sed -n 's|^model *whole/runs/\(.*\)/best.h5$|\1|p' out)
command=$(sed -n 's/^winner *[a-z]*: //p' out | sed "s|^thaw|$thaw|")
check "the winner's command runs" sh -c "$command" >/dev/null 2>&1
check "and gives the winner's model, bit for bit" cmp -s RUN/best.h5 "whole/runs/$winner/best.h5"

# ---- going on ----
long="$base --epochs 6 --strategies head,all --seeds 2 --no-test --no-halving"
# shellcheck disable=SC2086 # a list of words
expect 0 "a bench that is not stopped" bench data -o never $long
for how in KILL INT; do
    # shellcheck disable=SC2086 # a list of words
    "$thaw" bench data -o "by_$how" $long >out 2>err </dev/null &
    bench=$!
    for _ in $(seq 1 400); do # until the second training is under way
        [ "$(wc -l 2>/dev/null <"by_$how/runs/all-seed0/metrics.jsonl")" -ge 2 ] 2>/dev/null && break
        sleep 0.05
    done
    child=$(cat "by_$how/runs/all-seed0/.lock")
    kill -"$how" "$bench"
    code=0
    wait "$bench" || code=$?
    sleep 0.5
    check "$how: the bench ends by it" [ "$code" -eq "$([ "$how" = INT ] && echo 130 || echo 137)" ]
    check "$how: no training outlives the bench" ended "$child"
    check "$how: it had not come to its end" [ "$(find "by_$how/runs" -name '*.result.json' | wc -l)" -lt 4 ]
    # shellcheck disable=SC2086 # a list of words
    expect 0 "$how: the same command goes on" bench data -o "by_$how" $long
    check "$how: with the same result" [ "$(timeless "by_$how")" = "$(timeless never)" ]
done

# ---- what fails ----
bench 0 "a training that diverges is a row" fails --strategies head,own --thaw all --lr 1e5 --seeds 2 --no-halving
prints '^own .*  failed: seed 0: .*not finite'
prints '^head .* 2  winner$'
check "the page says so" grep -q 'own: failed' fails/bench.html
bench 1 "nothing but failures is a failure" nothing --strategies all --lr 1e5 --seeds 2
says "no training ended well: nothing/bench.html says why"

# ---- halving and the budget ----
fingerprint=$(sed -n 's/.*"data_fingerprint":"\([^"]*\)".*/\1/p' whole/bench.json)
record() { # NAME SEED MARKS: as a training that ended so; 12 validation images
    mkdir -p halved/runs
    printf '{"code":0,"data":"%s","marks":"%s","seconds":60,"peak_bytes":1}' "$fingerprint" "$3" \
        >"halved/runs/$1-seed$2.result.json"
}
record head 0 111111111111
bench 0 "a budget ends it" halved --strategies head,bias --seeds 3 --budget 1 --no-test
prints '^head .* 1  winner: --budget was used up$'
prints '^bias .* 0  not run: --budget was used up$'
rm -r halved
for seed in 0 1 2 3; do
    record head "$seed" 111111111111
    record bias "$seed" 000000000001
    record bn "$seed" 111111111101
done
record all 0 000000000000
bench 0 "what is clearly worse gets no more seeds" halved --no-test --strategies bias,all,head,bn --seeds 4
prints '^head .* 4  winner$'
prints '^bn .* 4  kept$'
prints '^bias .* 1  dropped: clearly worse after 1 seed$'
prints '^all .* 1  dropped: clearly worse after 1 seed$'
says "all is dropped: clearly worse than head, by 100.0 points"
rm -r halved
for seed in 0 1 2 3; do record head "$seed" 111111111111; done
for seed in 0 1; do record bias "$seed" 000000000001; done
record all 0 000000000000
bench 0 "only the lower half goes, however bad the rest is" halved --no-test --strategies bias,all,head --seeds 4
prints '^bias .* 2  dropped: clearly worse after 2 seeds$'
prints '^all .* 1  dropped: clearly worse after 1 seed$'
for seed in 2 3; do record bias "$seed" 000000000001; done
for seed in 1 2 3; do record all "$seed" 000000000000; done
bench 0 "unless nothing is to be dropped" halved --no-test --strategies bias,all,head --seeds 4 --no-halving
prints '^all .* 4  kept$'
check "and nothing of all this trained" [ ! -e halved/runs/all-seed0 ]

# ---- what trainings share ----
pretrained=whole/runs/all-seed0/best.h5 # random values would be others for each seed
bench 0 "without augmentation features are shared" shared --strategies head --seeds 2 --augment none --no-test --weights "$pretrained"
prints '^head .* 2  winner: features kept by another training in 1 of 2$'
bench 0 "with the same result as without" alone --strategies head --seeds 2 --augment none --no-test --weights "$pretrained" --cache off
check "which differs in nothing else" \
    [ "$(timeless shared | sed 's/"note":"[^"]*"//')" = "$(timeless alone | sed 's/"note":"[^"]*"//; s/ --cache off//')" ]
check "shared/cache is there" [ -d shared/cache ]

# ---- forecast ----
# shellcheck disable=SC2086 # a list of words
expect 0 "train --forecast" train data -o forecast_run $base --forecast
prints '^forecast  [0-9.]+ s, peak memory [0-9]+ MB$'
check "leaves no run behind" [ ! -e forecast_run ]
bench 0 "a forecast of each strategy" foreseen --strategies head,gradual,all --forecast
for name in head gradual all; do
    prints "^$name  .* [0-9.]+ +[0-9]+ +[0-9,]+ +0  forecast\$"
done
check "leaves no training behind" [ -z "$(ls foreseen/runs)" ]
bench 0 "and the bench can begin there" foreseen --strategies head --seeds 1 --no-test

# ---- adapters ----
bench 0 "adapters beside the head" adapted --strategies head,lora --lora r=2 --seeds 1 --no-test
prints "^lora  .* 12,857     1"
check "where --lora says which" grep -q '"lora": "r=2,' adapted/runs/lora-seed0/config.json
check "and the head has none" [ -z "$(grep '"lora": "r' adapted/runs/head-seed0/config.json)" ]

# ---- what is given by mistake ----
mkdir other && touch other/file
bench 2 "a strategy that does not exist" new --strategies haed
says "--strategies: 'haed' is none; did you mean head?"
bench 2 "one that stands twice" new --strategies head,head
says "head stands twice"
bench 2 "one that the network is too small for" new --strategies last7
says "last7: the network has fewer stages"
bench 2 "adapters of rank 0" new --strategies lora --lora r=0
says "--lora: r=0"
bench 2 "own without words" new --strategies own
says "own is what --thaw and --bn say"
bench 2 "own words that do not exist" new --thaw layer9,head
says "--thaw: 'layer9' matches nothing in resnet20"
bench 2 "no validation images" new --val 0
says "strategies are compared by validation images, and there are none"
bench 2 "a folder of other things" other --strategies head
says "other exists and holds no bench: choose another folder"
bench 2 "no seeds" new --seeds 0
says "--seeds: 0 is outside 1 to 64"
bench 5 "a folder that cannot be made" data/train/class_0/000.ppm/new
expect 2 "no folder" bench data
says "bench wants -o DIR"
expect 2 "no data" bench -o new
says "bench wants DATA"
expect 5 "data that are not there" bench nowhere -o new --weights random --backbone resnet20
expect 2 "an option that only train has" train data -o new --strategies head
says "thaw train does not take --strategies (thaw bench does)"
check "none of these left a folder behind" [ ! -e new ]
echo '{"code":0}' >whole/runs/head-seed0.result.json
bench 3 "a damaged record" whole --strategies head,all --seeds 2
says "head-seed0.result.json: is damaged; remove it"
rm whole/runs/head-seed0.result.json
bench 0 "a record that was removed is made again from the run" whole --strategies head,all --seeds 2 --no-halving --quiet
cp data/train/class_0/000.ppm data/train/class_0/new.ppm
bench 3 "images that came later" whole --strategies head,all --seeds 2
says "its images are no longer those of"

finish
