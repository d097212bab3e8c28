#!/usr/bin/env bash
# yesno: sixty real recordings of eight Hebrew words each, one speaker, 8 kHz. Trains on every other one, reports on the rest.
#
#   recipes/yesno/run.sh --data DIR [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder waves_yesno of OpenSLR 1, or the one above it
#   --out DIR    where everything goes (default: runs/yesno, with --small runs/yesno-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run of a minute: a tiny network, two epochs
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.width=24 training.epochs=2 optim.warmup_steps=5)
read_options "$@"

if stage_wanted 1 "prepare"; then
    need_data "the recordings of yesno"
    asr-data prepare yesno --root "$data" --out "$out/data"
fi
usual_stages "$out" test word
