"""Phone sets: ARPAbet as CMUdict writes it, and the TIMIT sets with their folding 61 -> 48 -> 39.

The folding is the one of K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models",
IEEE Trans. ASSP 37(11), 1989, table 1: models are trained on 48 phones, errors are counted on 39, the glottal stop q is deleted.
"""

import re
from collections.abc import Sequence

from asr.errors import DataError, UsageError

SILENCE = "sil"


def _symbols(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ARPABET39 = _symbols("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH")

#: Each of the 61 TIMIT symbols with its phone among the 48; the empty string deletes.
TIMIT61_TO_48 = {
    **{phone: phone for phone in _symbols("aa ae ah ao aw ax ay b ch d dh dx eh el en epi er ey f g hh ih ix iy jh k l m n")},
    **{phone: phone for phone in _symbols("ng ow oy p r s sh t th uh uw v w y z zh")},
    **dict.fromkeys(("pcl", "tcl", "kcl"), "cl"),
    **dict.fromkeys(("bcl", "dcl", "gcl"), "vcl"),
    **dict.fromkeys(("h#", "pau"), SILENCE),
    "ax-h": "ax",
    "axr": "er",
    "em": "m",
    "eng": "ng",
    "hv": "hh",
    "nx": "n",
    "ux": "uw",
    "q": "",
}

#: The phones among the 48 that fall together with another one among the 39; the others stay.
TIMIT48_TO_39 = {
    "ao": "aa",
    "ax": "ah",
    "el": "l",
    "en": "n",
    "ix": "ih",
    "zh": "sh",
    "cl": SILENCE,
    "vcl": SILENCE,
    "epi": SILENCE,
}

TIMIT61 = tuple(sorted(TIMIT61_TO_48))
TIMIT48 = tuple(sorted(set(TIMIT61_TO_48.values()) - {""}))
TIMIT39 = tuple(phone for phone in TIMIT48 if phone not in TIMIT48_TO_39)

PHONE_SETS = {"arpabet": ARPABET39, "timit61": TIMIT61, "timit48": TIMIT48, "timit39": TIMIT39}

_ARPABET_MARKS = re.compile(r"([A-Za-z]+)[0-2]?(?:_[BIES])?")


def strip_arpabet(phone: str) -> str:
    """``AH0_B`` -> ``AH``: the phone in capitals without its stress digit (0-2) and Kaldi's word-position mark.

    What does not look like such a phone is returned unchanged.
    """
    match = _ARPABET_MARKS.fullmatch(phone)
    bare = match.group(1).upper() if match else phone
    return bare if bare in ARPABET39 else phone


def fold_phones(phones: Sequence[str], to: str, *, merge_silence: bool = False) -> list[str]:
    """Fold TIMIT phones, of the 61 or of the 48, to ``timit48`` or ``timit39`` (``48`` and ``39`` for short); q is deleted.

    With ``merge_silence`` a run of ``sil`` becomes one; no other repeat is touched, for it may be speech. Use the same
    convention for references and hypotheses. Raises DataError naming the phones that stand in neither set.
    """
    name = f"timit{to.removeprefix('timit')}"
    if name not in ("timit48", "timit39"):
        raise UsageError(f'phones fold to timit48 or timit39, not to "{to}"')
    unknown = sorted({phone for phone in phones if phone not in TIMIT61_TO_48 and phone not in TIMIT48})
    if unknown:
        raise DataError(f"not TIMIT phones: {' '.join(unknown[:20])}; expected symbols of the set of 61 or of 48")
    folded: list[str] = []
    for phone in phones:
        target = TIMIT61_TO_48.get(phone, phone)
        if name == "timit39":
            target = TIMIT48_TO_39.get(target, target)
        if target and not (merge_silence and target == SILENCE and folded[-1:] == [SILENCE]):
            folded.append(target)
    return folded
