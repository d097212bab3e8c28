#!/usr/bin/env bash
# AN4: spelt and spoken names, addresses and numbers, characters. Chooses on a tenth of the training speakers, reports on the
# test set, 130 recordings of ten other speakers.
#
#   recipes/an4/run.sh --data DIR [--download] [--partial] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder an4 with etc/ and wav/ (SPHERE or raw), or the one above it
#   --download   fetch what is missing there first
#   --partial    take a copy that is not complete, too
#   --out DIR    where everything goes (default: runs/an4, with --small runs/an4-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run of a minute: an eighth of the data, a tiny network, one epoch
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=3 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_flags="--partial --download" partial='' download=''
read_options "$@"

if stage_wanted 1 "prepare"; then
    need_data "the folder an4 with etc/ and wav/"
    asr-data prepare an4 --root "$data" --out "$out/data" ${partial:+--counts any} ${download:+--download}
    [ -z "$small" ] || thin 8 "$out"/data/{train,valid,test}.jsonl
fi
usual_stages "$out" test word char
