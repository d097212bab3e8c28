#!/usr/bin/env bash
# Mini LibriSpeech: five hours of English audio books to train on, characters. Chooses on a tenth of the training speakers,
# reports on dev-clean-2.
#
#   recipes/mini_librispeech/run.sh --data DIR [--download] [--partial] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   the folder LibriSpeech of OpenSLR 31, with train-clean-5 and dev-clean-2, or the one above it
#   --download   fetch what is missing there first
#   --partial    take a copy that is not complete, too
#   --out DIR    where everything goes (default: runs/mini_librispeech, with --small runs/mini_librispeech-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run of a minute: a twentieth of the data, a tiny network, one epoch
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=3 encoder.width=32 training.epochs=1 optim.warmup_steps=5)
own_flags="--partial --download" partial='' download=''
read_options "$@"

if stage_wanted 1 "prepare"; then
    need_data "the folder LibriSpeech with train-clean-5 and dev-clean-2"
    asr-data prepare mini_librispeech --root "$data" --out "$out/data" ${partial:+--counts any} ${download:+--download}
    [ -z "$small" ] || thin 20 "$out"/data/{train,valid,dev}.jsonl
fi
usual_stages "$out" dev word char
