#!/usr/bin/env bash
# ladder: the networks from the feed-forward net to the LSTM with peepholes, one after another on the same data, about a
# million weights each; then the LSTM at four depths, in one direction and in both. Two tables, two pictures of learning curves.
#
#   recipes/ladder/run.sh [--data DIR] [--corpus NAME] [--seeds N] [--epochs N] [--stations "NAME ..."] [--out DIR] [--stage N]
#                         [--small] [KEY=VALUE ...]
#
#   --data DIR         the folder of speechocean762 or of fsdd; digits are made, and need none
#   --corpus NAME      speechocean762 (39 phones, the default), or for a quick look fsdd or digits (synthetic)
#   --seeds N          trainings of each station, with the seeds 1 to N (default: 1)
#   --epochs N         passes over the data for each station (default: 20)
#   --stations "..."   only these: mlp rnn-forward rnn lstm1997 lstm-forward lstm lstm-peepholes gru, and
#                      depth1-forward depth1 depth2-forward depth2 depth5-forward depth5
#   --out DIR          where everything goes (default: runs/ladder, with --small runs/ladder-small)
#   --stage N          start at 1 prepare, 2 train, 3 decode or 4 score, for each station
#   --small            a dry run of a minute: a fraction of the data, four stations of tiny networks, one epoch
#   KEY=VALUE          handed to asr-train for every station, such as optim.learning_rate=1e-3
#
# Stopped, the same command goes on where it was: a station that is done is not done again.
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
# shellcheck source=recipes/ladder/stations.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/stations.sh"
small_settings=(encoder.width=16 training.epochs=1 optim.warmup_steps=5)
own_values="--corpus --seeds --epochs --stations" corpus=speechocean762 seeds=1 epochs=20 stations=''
read_options "$@"
choose_corpus
choose_stations

if stage_wanted 1 "prepare"; then
    [ "$corpus" = digits ] || need_data "the folder of $corpus"
    prepare
fi
for station in "${chosen[@]}"; do
    for seed in $(seq "$seeds"); do
        run="$here/$station/seed$seed"
        if stage_wanted 2 "train $station, seed $seed"; then
            # shellcheck disable=SC2046
            asr-train experiment=ladder "data.dir=$prepared" "run_dir=$run" "${corpus_settings[@]}" $(network "$station") \
                "training.epochs=$epochs" "seed=$seed" ${settings[@]+"${settings[@]}"}
        fi
        [ "$stage" -gt 2 ] || [ ! "$run/score/score.json" -nt "$run/model/checksums.json" ] || continue
        if stage_wanted 3 "decode $station, seed $seed"; then
            asr-decode "model=$run" "manifest=$prepared/$part.jsonl" "out=$run/$part.hyp.jsonl" overwrite=true
        fi
        if stage_wanted 4 "score $station, seed $seed"; then
            asr-score "ref=$prepared/$part.jsonl" "hyp=$run/$part.hyp.jsonl" "unit=$unit" "out=$run/score" > "$run/score.txt"
        fi
    done
done
compare ladder "The ladder on $corpus: one network after another" "${ladder[@]}"
compare depth "Depth and direction on $corpus" "${depth[@]}"
