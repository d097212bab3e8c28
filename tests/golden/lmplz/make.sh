#!/usr/bin/env bash
# Writes words.txt, 300 sentences of a made-up Zipfian language, and words.arpa, KenLM's model of it. LMPLZ is KenLM's program of
# that name (kenlm 0.3.0).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
python - > words.txt <<'PYTHON'
import random

draw = random.Random(1)
words = [begin + middle + end for begin in "bdgklmnprst" for middle in "aeiou" for end in "mnrst"]
weights = [1 / rank for rank in range(1, len(words) + 1)]
for _ in range(300):
    words_of_one = draw.choices(words, weights, k=draw.randint(1, 6))
    print(*words_of_one, *draw.choices([words[:3], words[3:5], []])[0])
PYTHON
"$LMPLZ" --order 3 --memory 100M --text words.txt --arpa words.arpa
