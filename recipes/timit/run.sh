#!/usr/bin/env bash
# TIMIT, phones: the recipe of Graves, Mohamed and Hinton (2013), or one with what was found to help since. Core test set.
#
#   recipes/timit/run.sh --data DIR [--system modern|graves2013] [--layers N] [--ngram] [--partial] [--out DIR] [--stage N]
#                        [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder of TIMIT (LDC93S1), with TRAIN/ and TEST/
#   --system S   modern (the default) or graves2013
#   --layers N   number of layers: graves2013 1 to 5 (default 3), modern 3 to 5 (default 4)
#   --ngram      decode with a trigram of the training phones, too; its weight is tuned on valid
#   --partial    take a copy that is not complete, too
#   --out DIR    where everything goes (default: runs/timit, with --small runs/timit-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run: a tenth of the data, a tiny network, one epoch
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.width=32 training.epochs=1)
own_values="--system --layers" system=modern layers='' own_flags="--ngram --partial" ngram='' partial=''
read_options "$@"
case "$system" in
    modern) search=(decoder=greedy) phone_set=timit39 least=3 ;;
    graves2013) search=(decoder=beam beam=100) phone_set=timit61 least=1 ;;
    *) refuse "--system takes modern or graves2013, got '$system'" ;;
esac
[[ "$layers" == '' || "$layers" == [$least-5] ]] || refuse "--layers takes $least to 5 with --system $system, got '$layers'"
run="$out/$system${layers:+-$layers}"
settings=(${layers:+"encoder.layers=$layers"} ${settings[@]+"${settings[@]}"})
kinds=(test_merged_{false,true} ${ngram:+test.ngram_merged_false test.ngram_merged_true})

if stage_wanted 1 "prepare"; then
    need_data "the folder of TIMIT"
    asr-data prepare timit --root "$data" --out "$out/data" ${partial:+--counts any}
    [ -z "$small" ] || thin 10 "$out"/data/{train,valid,test}.jsonl
fi
if stage_wanted 2 "train"; then
    if [ "$system" = graves2013 ]; then
        asr-train experiment=timit_graves2013 "data.dir=$out/data" "run_dir=$run/clean" ${settings[@]+"${settings[@]}"}
        settings=("init=$run/clean" training.weight_noise=0.075 training.best_by=error ${settings[@]+"${settings[@]}"})
    fi
    asr-train "experiment=timit_$system" "data.dir=$out/data" "run_dir=$run" ${settings[@]+"${settings[@]}"}
fi
if stage_wanted 3 "decode"; then
    asr-decode "model=$run" "manifest=$out/data/test.jsonl" "out=$run/test.hyp.jsonl" overwrite=true "${search[@]}"
    if [ -n "$ngram" ]; then
        lm="$run/phones.arpa"
        asr-lm train "text=$out/data/train.jsonl" "out=$lm" unit=phone "phone_set=$phone_set" order=3 overwrite=true
        asr-decode "model=$run" "manifest=$out/data/valid.jsonl" "lm=$lm" tune=true
        asr-decode "model=$run" "manifest=$out/data/test.jsonl" "out=$run/test.ngram.hyp.jsonl" overwrite=true "lm=$lm"
    fi
fi
if stage_wanted 4 "score"; then
    for kind in "${kinds[@]}"; do
        asr-score "ref=$out/data/test.jsonl" "hyp=$run/${kind%%_*}.hyp.jsonl" unit=phone phone_set=timit39 \
            "merge_silence=${kind##*_}" "out=$run/score_$kind"
    done
fi
echo
echo "model: $run/model    curves: $run/curves.png    transcripts: $run/test.hyp.jsonl    score:" "${kinds[@]/#/$run/score_}"
