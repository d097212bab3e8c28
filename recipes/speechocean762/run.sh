#!/usr/bin/env bash
# speechocean762: real English sentences of Mandarin speakers, half of them children. Trains on the part train, chooses on
# valid, reports on dev; no speaker stands in two parts.
#
#   recipes/speechocean762/run.sh --data DIR [--unit phones|characters] [--processes N] [--out DIR] [--stage N] [--small]
#                                 [KEY=VALUE ...]
#
#   --data DIR      the folder of speechocean762, with WAVE/, train/ and resource/
#   --unit U        what is recognised: phones (39, the default) or characters
#   --processes N   train in so many processes at once, by torchrun: one for each core or GPU (default: 1)
#   --out DIR       where everything goes (default: runs/speechocean762, with --small runs/speechocean762-small)
#   --stage N       start at 1 prepare, 2 train (phones: with CTC, then on the expected edits), 3 decode or 4 score
#   --small         a dry run of a minute: a twentieth of the data, a tiny network, one epoch
#   KEY=VALUE       handed to asr-train (phones: both times), such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=3 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_values="--unit --processes" unit=phones
read_options "$@"
case "$unit" in
    phones) measures=(phone) ;;
    characters) measures=(char word) ;;
    *) refuse "--unit takes phones or characters, got '$unit'" ;;
esac
run="$out/$unit"

if stage_wanted 1 "prepare"; then
    need_data "the folder of speechocean762"
    asr-data prepare speechocean762 --root "$data" --out "$out/data"
    [ -z "$small" ] || thin 20 "$out"/data/{train,valid,dev}.jsonl
fi
if stage_wanted 2 "train"; then
    train() { "${trainer[@]}" "experiment=speechocean762_$1" "data.dir=$out/data" "${@:2}" ${settings[@]+"${settings[@]}"}; }
    if [ "$unit" = phones ]; then
        train phones "run_dir=$run-ctc"
        train phones_edits "run_dir=$run" "init=$run-ctc"
    else
        train characters "run_dir=$run"
    fi
fi
if stage_wanted 3 "decode"; then
    asr-decode "model=$run" "manifest=$out/data/dev.jsonl" "out=$run/dev.hyp.jsonl" overwrite=true
fi
if stage_wanted 4 "score"; then
    for measure in "${measures[@]}"; do
        asr-score "ref=$out/data/dev.jsonl" "hyp=$run/dev.hyp.jsonl" "unit=$measure" "out=$run/score_$measure"
    done
fi
echo
echo "model: $run/model    curves: $run/curves.png    transcripts: $run/dev.hyp.jsonl    score:" "${measures[@]/#/$run/score_}"
