#!/usr/bin/env bash
# TED-LIUM 3: talks in English, 452 hours to train on, characters. Chooses on the development talks of its legacy
# distribution, reports on its test talks.
#
#   recipes/tedlium/run.sh --data DIR [--partial] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder TEDLIUM_release-3 with legacy/, or the one above it
#   --partial    take a copy that is not complete, too
#   --out DIR    where everything goes (default: runs/tedlium, with --small runs/tedlium-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run: a two-hundredth of the data, a tiny network, one epoch
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_flags=--partial partial=''
read_options "$@"

if stage_wanted 1 "prepare"; then
    need_data "the folder TEDLIUM_release-3"
    asr-data prepare tedlium --root "$data" --out "$out/data" ${partial:+--counts any}
    [ -z "$small" ] || thin 200 "$out"/data/{train,valid,test}.jsonl
fi
usual_stages "$out" test word
