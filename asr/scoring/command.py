"""The words of `asr-score` that suit a model: what is counted, after the rules that its transcripts went through."""

import json
import os
from dataclasses import fields

from asr.data.manifest import scan_manifest
from asr.text.normalize import TextRules, lacks_spaces
from asr.text.tokenizer import TokenOptions

#: Transcripts that are looked at to see which script they are in.
LOOKED_AT = 200


def score_words(tokens: TokenOptions, manifest: str | os.PathLike[str], *, words: bool = False) -> list[str]:
    """`unit=` and the rules that are not the defaults of asr-score, for a model with these tokens and these references.

    Phones, words or, in a script without spaces, characters are counted. ``words``: a model of phones writes words, by a lexicon.
    """
    if not tokens.writes_text:
        return ["unit=word" if words else "unit=phone"]
    texts = [one.text or "" for one in scan_manifest(manifest)[0][:LOOKED_AT]] if os.path.isfile(manifest) else []
    typed = ["unit=char" if lacks_spaces("".join(texts)) else "unit=word"]
    for rule in fields(TextRules):
        value = getattr(tokens, rule.name)
        if value != getattr(TextRules(), rule.name):
            typed.append(f"{rule.name}={json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
    return typed
