#!/usr/bin/env bash
# Common Voice: sentences read by volunteers, one language at a time, characters of whatever alphabet it has. Chooses on the
# published development set, reports on the published test set.
#
#   recipes/commonvoice/run.sh --data DIR [--language LANG] [--validated] [--partial] [--out DIR] [--stage N] [--small]
#                              [KEY=VALUE ...]
#
#   --data DIR        the release (cv-corpus-...), or the folder of the language with clips/ and test.tsv
#   --language LANG   the language's folder, such as de or zh-TW; needed where the release has several
#   --validated       train on every validated recording of the other speakers and sentences, not on train.tsv alone
#   --partial         go on without clips that are missing or damaged; those of the test set are then missing in the score
#   --out DIR         where everything goes (default: runs/commonvoice, with --small runs/commonvoice-small)
#   --stage N         start at 1 prepare, 2 train, 3 decode or 4 score
#   --small           a dry run: a two-hundredth of the data, a tiny network, one epoch
#   KEY=VALUE         handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_values=--language language=''
own_flags='--validated --partial' validated='' partial=''
read_options "$@"
here="$out${language:+/$language}"

if stage_wanted 1 "prepare${language:+ $language}"; then
    need_data "the folder of a Common Voice release"
    asr-data prepare commonvoice --root "$data" --out "$here/data" \
        ${language:+--language "$language"} ${validated:+--train-on validated} ${partial:+--on-bad skip}
    [ -z "$small" ] || thin 200 "$here"/data/{train,valid,test}.jsonl
fi
usual_stages "$here" test word char
