#!/usr/bin/env bash
# Writes the language models of this folder from words.txt. BUILD_BINARY is KenLM's program of that name (kenlm 0.3.0).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
asr-lm train text=words.txt order=3 out=words.arpa overwrite=true
"$BUILD_BINARY" probing words.arpa words.probing.klm
"$BUILD_BINARY" trie words.arpa words.trie.klm
"$BUILD_BINARY" -q 4 -b 4 -a 22 trie words.arpa words.quantized.klm
