#!/usr/bin/env bash
# Speech Commands: single English words of one second, characters. Chooses on the published validation list, reports on the
# published test list.
#
#   recipes/speechcommands/run.sh --data DIR [--download] [--partial] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder with the two lists and a folder for each word, or the one above speech_commands_v0.02
#   --download   fetch what is missing there first
#   --partial    take a copy that is not complete, too
#   --out DIR    where everything goes (default: runs/speechcommands, with --small runs/speechcommands-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run: a two-hundredth of the data, a tiny network, one epoch
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_flags="--partial --download" partial='' download=''
read_options "$@"

if stage_wanted 1 "prepare"; then
    need_data "the folder of Speech Commands"
    asr-data prepare speechcommands --root "$data" --out "$out/data" ${partial:+--counts any} ${download:+--download}
    [ -z "$small" ] || thin 200 "$out"/data/{train,valid,test}.jsonl
fi
usual_stages "$out" test word
