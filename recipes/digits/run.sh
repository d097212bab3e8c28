#!/usr/bin/env bash
# digits: SYNTHETIC connected digits, spoken by espeak-ng in many voices. Reports on voices never heard in training.
#
#   recipes/digits/run.sh [--data DIR] [--out DIR] [--stage N] [--small] [KEY=VALUE ...]
#
#   --data DIR   where the speech is put that is made here (default: the folder data in --out)
#   --out DIR    where everything else goes (default: runs/digits, with --small runs/digits-small)
#   --stage N    start at 1 prepare, 2 train, 3 decode or 4 score
#   --small      a dry run of a minute: few recordings, a tiny network, two epochs
#   KEY=VALUE    handed to asr-train, such as training.epochs=20
set -euo pipefail
# shellcheck source=recipes/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"
small_settings=(encoder.layers=1 encoder.width=32 training.epochs=2 optim.warmup_steps=5)
read_options "$@"
prepared="${data:-$out/data}"
remark="This speech is SYNTHETIC: the error rate says that training works, not how well people are recognised."

if stage_wanted 1 "prepare"; then
    asr-data prepare digits --out "$prepared" ${small:+--train 120 --valid 20 --test 20}
fi
usual_stages "$out" test word
