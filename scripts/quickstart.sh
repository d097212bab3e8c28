#!/usr/bin/env bash
# From a fresh clone to a recogniser: install, make synthetic speech, train on it, decode, score.
#   scripts/quickstart.sh [RUN_DIR]      RUN_DIR: where the model and results go (default: runs/quickstart)
# Running it again continues where it stopped. setup.sh names the variables that choose Python and torch.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" && exit 0 ;; esac
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
asr_setup demo

run_dir="${1:-$asr_root/runs/quickstart}"
data_dir="$asr_root/data/digits"
bin="$asr_venv/bin"

echo "== Data: connected digits spoken by a synthesiser, many voices; the voices of the test part are not in the training part"
[ -f "$data_dir/prepare.json" ] || "$bin/asr-data" prepare digits --out "$data_dir"
echo "== Training"
"$bin/asr-train" experiment=digits "data.dir=$data_dir" "run_dir=$run_dir"
echo "== Decoding the test part"
"$bin/asr-decode" "model=$run_dir" "manifest=$data_dir/test.jsonl" "out=$run_dir/hyp.jsonl" overwrite=true
echo "== Three of its transcripts"
"$bin/python" - "$data_dir/test.jsonl" "$run_dir/hyp.jsonl" <<'PYTHON'
import json, sys
said, heard = ({line["id"]: line["text"] for line in map(json.loads, open(path, encoding="utf-8"))} for path in sys.argv[1:])
for name in sorted(said)[:: max(1, len(said) // 3)][:3]:
    print(f"   {name}\n      said:  {said[name]}\n      heard: {heard[name]}")
PYTHON
echo "== Score"
"$bin/asr-score" "ref=$data_dir/test.jsonl" "hyp=$run_dir/hyp.jsonl" unit=word "out=$run_dir/score"
cat <<END

This speech is synthetic: the error rate above says that everything works, not how well people are recognised.
   data                  $data_dir
   model                 $run_dir/model
   curves                $run_dir/curves.png
   transcripts           $run_dir/hyp.jsonl
   score, alignments     $run_dir/score
Try it on a recording of English digits:   "$bin/asr-decode" "model=$run_dir" FILE.wav
Real speech: the folders in recipes/ hold one recipe each.
END
