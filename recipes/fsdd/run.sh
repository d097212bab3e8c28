#!/usr/bin/env bash
# fsdd: real single digits of six speakers, 8 kHz. The official split, in which all six speakers are heard in training, or
# six trainings, each tested on the speaker left out of it.
#
#   recipes/fsdd/run.sh --data DIR [--leave-one-out] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR        the folder of the Free Spoken Digit Dataset, with recordings/
#   --leave-one-out   leave each speaker out in turn and print the mean of the six error rates
#   --out DIR         where everything goes (default: runs/fsdd, with --small runs/fsdd-small)
#   --stage N         start at 1 prepare, 2 train, 3 decode or 4 score; with --leave-one-out, for each speaker
#   --small           a dry run of a minute: an eleventh of the data, a tiny network, one epoch, the first two speakers
#   KEY=VALUE         handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_flags=--leave-one-out leave_one_out=''
read_options "$@"

# run_split NAME [OPTION ...]: all stages for one way to split the corpus.
run_split() {
    local here="$out/$1"
    if stage_wanted 1 "prepare $1"; then
        need_data "the folder of the Free Spoken Digit Dataset"
        asr-data prepare fsdd --root "$data" --out "$here/data" "${@:2}"
        [ -z "$small" ] || thin 11 "$here"/data/{train,valid,test}.jsonl
    fi
    usual_stages "$here" test word
}

if [ -z "$leave_one_out" ]; then
    run_split official
    exit
fi
speakers=(george jackson lucas nicolas theo yweweler)
[ -z "$small" ] || speakers=(george jackson)
scores=()
for speaker in "${speakers[@]}"; do
    run_split "without-$speaker" --leave-out "$speaker"
    scores+=("$out/without-$speaker/score/score.json")
done
echo
cat -- "${scores[@]}" | awk -F '[:,]' -v names="${speakers[*]}" '
    BEGIN { split(names, name, " ") }
    /^  "error_rate"/ { sum += 100 * $2; printf "  %-10s %6.2f %%\n", name[++count], 100 * $2 }
    END { printf "mean word error rate of %d speakers, each left out of training: %.2f %%\n", count, sum / count }'
