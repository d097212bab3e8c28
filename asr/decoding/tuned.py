"""The weights that tuning found, kept beside the model in decode.json, and when they are used."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from asr.data.files import open_regular, show_path, write_atomic
from asr.decoding.options import SEARCHES
from asr.errors import DataError, ModelError

FORMAT = 1
#: bytes that no file of weights reaches
LARGEST = 2**22


@dataclass(frozen=True)
class Tuned:
    """What one tuning found: the key it is found by, the weights, and the counts behind the choice."""

    #: sha256 of the model's checksums.json, of the language model and of the lexicon; None where there was none
    model: str
    lm: str | None
    lexicon: str | None
    #: what was asked for: beam | lexicon
    asked: str
    #: what is best: as asked, or greedy
    decoder: str
    #: 0 where the language model did not help
    lm_weight: float
    insertion_bonus: float
    beam: int
    #: what was counted: word | phone
    unit: str
    #: errors per reference token on the validation data: as chosen, with the language model, without it, and of greedy search
    error_rate: float
    error_rate_with_lm: float | None
    error_rate_without_lm: float
    error_rate_greedy: float | None
    #: share of paired bootstrap draws in which the language model made fewer errors than the best setting without it
    lm_better: float | None
    #: exponent of the search's posterior that confidences are taken from
    confidence_scale: float
    #: confidences c become 1 / (1 + exp(-(slope * ln(c / (1 - c)) + offset))); 1 and 0 leave them as they are
    slope: float
    offset: float
    #: expected calibration error of the confidences before and after, the latter on speakers that were held out
    calibration_error_before: float | None
    calibration_error_after: float | None
    #: utterances of the validation data
    utterances: int
    #: 0: the likeliest hypothesis, as files say that were written before there was another
    mbr: float = 0.0
    #: 0 in files that were written before there was another
    blank_penalty: float = 0.0

    @property
    def lm_is_off(self) -> bool:
        """Whether a language model was tried and turned off."""
        return self.lm is not None and self.lm_weight == 0

    @property
    def key(self) -> tuple[str, str | None, str | None, str]:
        return self.model, self.lm, self.lexicon, self.asked


def tuned_path(model_folder: Path) -> Path:
    """decode.json beside the model/ folder of a run; NAME.decode.json beside a model folder of another name."""
    name = "decode.json" if model_folder.name == "model" else f"{model_folder.name}.decode.json"
    return model_folder.resolve().parent / name


def read_tuned(path: Path) -> list[Tuned]:
    """All that was tuned, [] without a file. Raises ModelError for a file that is not as `write_tuned` leaves it."""
    if not path.exists():
        return []
    try:
        with open_regular(path) as handle:
            content = json.loads(handle.read(LARGEST).decode("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError
        return [_checked(entry) for entry in content["tuned"]]
    except (ValueError, KeyError, TypeError, RecursionError, DataError, OSError):
        advice = "run asr-decode tune=true again, or remove it"
        raise ModelError(f"{show_path(path)}: is not what asr-decode tune=true of this version writes; {advice}") from None


def write_tuned(path: Path, entry: Tuned) -> None:
    """Add an entry, in place of an older one for the same model, language model, lexicon and decoder.

    Entries of other states of the model go, and so does a file that cannot be read: it holds nothing that tuning cannot find.
    """
    try:
        before = read_tuned(path)
    except ModelError:
        before = []
    kept = [one for one in before if one.model == entry.model and one.key != entry.key]
    entries = [asdict(one) for one in (*kept, entry)]
    write_atomic(path, json.dumps({"format": FORMAT, "tuned": entries}, indent=1, allow_nan=False) + "\n")


def find_tuned(entries: Sequence[Tuned], *, model: str, lm: str | None, lexicon: str | None, asked: str) -> Tuned | None:
    """The entry for these files and this decoder."""
    return next((one for one in entries if one.key == (model, lm, lexicon, asked)), None)


def _checked(entry: dict[str, Any]) -> Tuned:
    """Raises ValueError or TypeError for what cannot be used."""
    kinds: dict[str, Any] = {one.name: one.type for one in fields(Tuned)}
    for name, value in entry.items():
        numbers = kinds[name] not in (str, str | None)
        allowed = (int, float) if numbers else (str,)
        optional = kinds[name] in (str | None, float | None)
        if not (isinstance(value, allowed) or (optional and value is None)) or isinstance(value, bool):
            raise ValueError
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
    made = Tuned(**entry)
    if made.decoder not in SEARCHES or made.beam < 1 or min(made.lm_weight, made.mbr, made.blank_penalty) < 0:
        raise ValueError
    if made.slope <= 0 or made.confidence_scale <= 0:
        raise ValueError
    return made
