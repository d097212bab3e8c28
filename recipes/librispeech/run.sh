#!/usr/bin/env bash
# LibriSpeech: English audio books, 100 to 960 hours to train on, characters or byte pairs. Reports on test-clean and test-other.
#
#   recipes/librispeech/run.sh --data DIR [--hours 100|960] [--unit UNIT] [--lm FILE] [--text FILE] [--lexicon FILE] [--download]
#                              [--partial] [--processes N] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR       the folder LibriSpeech with the parts of OpenSLR 12, or the one above it
#   --hours N        train on train-clean-100 (100, the default) or on all three training parts (960)
#   --unit UNIT      characters (the default) or bytepairs: 500 pieces of words, learnt from the training text
#   --lm FILE        decode with a language model of words, too: an ARPA file, such as 3-gram.pruned.1e-7.arpa.gz of OpenSLR 11
#   --text FILE      make that model here: a 3-gram of a text, such as librispeech-lm-norm.txt.gz of OpenSLR 11
#   --lexicon FILE   and with these words only: a list of words, such as librispeech-vocab.txt of OpenSLR 11
#   --download       fetch what is missing there first (--partial: take a copy that is not complete, too)
#   --processes N    train in so many processes at once, by torchrun: one for each GPU of this machine (default: 1)
#   --out DIR        where everything goes (default: runs/librispeech, with --small runs/librispeech-small)
#   --stage N        start at 1 prepare, 2 train, 3 decode or 4 score
#   --small          a dry run: a two-hundredth of the data, a tiny network, one epoch
#   KEY=VALUE        handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=64 training.epochs=1 optim.warmup_steps=5)
own_values="--hours --unit --lm --text --lexicon --processes" own_flags="--partial --download"
hours=100 unit=characters lm='' text='' lexicon='' partial='' download=''
read_options "$@"
[[ "$hours" == 100 || "$hours" == 960 ]] || refuse "--hours takes 100 or 960, got '$hours'"
[[ "$unit" == characters || "$unit" == bytepairs ]] || refuse "--unit takes characters or bytepairs, got '$unit'"
[ -z "$lm" ] || [ -z "$text" ] || refuse "--lm names a language model and --text makes one: give one of the two"
[ -z "$lexicon" ] || [ -n "$lm$text" ] || refuse "--lexicon needs --lm FILE or --text FILE, too"
prepared="$out/$hours/data" run="$out/$hours" lm="${lm:-${text:+$out/words.arpa.gz}}"
if [ "$unit" = bytepairs ]; then
    run="$out/$hours-bytepairs" settings=(tokens.unit=bytepairs encoder.subsampling=4 ${settings[@]+"${settings[@]}"})
fi
kinds=(test-{clean,other}.greedy ${lm:+test-clean.lm test-other.lm}) with=(${lm:+"lm=$lm"} ${lexicon:+"lexicon=$lexicon"})

if stage_wanted 1 "prepare"; then
    need_data "the folder LibriSpeech"
    asr-data prepare librispeech --root "$data" --out "$prepared" --train "$hours" ${partial:+--counts any} ${download:+--download}
    [ -z "$small" ] || thin 200 "$prepared"/*.jsonl
fi
if stage_wanted 2 "train"; then
    "${trainer[@]}" "experiment=librispeech_$hours" "data.dir=$prepared" "run_dir=$run/run" ${settings[@]+"${settings[@]}"}
fi
if stage_wanted 3 "decode"; then
    [ -z "$text" ] || asr-lm train "text=$text" "out=$lm" order=3 "prune=[0,0,1]" overwrite=true
    [ -z "$lm" ] || asr-decode "model=$run/run" "manifest=$prepared/valid.jsonl" "${with[@]}" tune=true
    for kind in "${kinds[@]}"; do
        [[ "$kind" == *.lm ]] && search=("${with[@]}") || search=(decoder=greedy)
        asr-decode "model=$run/run" "manifest=$prepared/${kind%.*}.jsonl" "out=$run/$kind.hyp.jsonl" overwrite=true "${search[@]}"
    done
fi
if stage_wanted 4 "score"; then
    for kind in "${kinds[@]}"; do
        asr-score "ref=$prepared/${kind%.*}.jsonl" "hyp=$run/$kind.hyp.jsonl" unit=word "out=$run/score_$kind"
    done
fi
echo && echo "model: $run/run/model    curves: $run/run/curves.png    transcripts: $run/test-clean.greedy.hyp.jsonl ...    score:" \
    "${kinds[@]/#/$run/score_}"
