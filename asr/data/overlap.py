"""The same recording in two parts of a data set, whatever its file is called.

Only recordings of the same text and length are compared by their samples, so that in most data sets no file has to be read.
"""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asr.data.manifest import Utterance
from asr.errors import DataError

#: Part and utterance.
_Place = tuple[str, Utterance]


@dataclass(frozen=True)
class Copy:
    """An utterance whose recording and text stand in an earlier part too."""

    id: str
    #: The earlier part, and the id there.
    part: str
    other: str


def find_copies(parts: Mapping[str, Sequence[Utterance]]) -> dict[str, list[Copy]]:
    """The utterances of each part that an earlier part holds too: the same stretch of a file, or the same text and samples.

    Utterances of the same id are not compared: where two parts share them, one of them was made from the other. A recording
    that cannot be read is no copy.
    """
    stretches: dict[tuple[str, float], _Place] = {}
    said: dict[tuple[str | None, str | None, float], _Alike] = defaultdict(_Alike)
    found: dict[str, list[Copy]] = {}
    for part, utterances in parts.items():
        found[part] = []
        for one in utterances:
            match = stretches.get((one.audio_filepath, one.offset))
            if match is None and _words(one) in said:
                match = said[_words(one)].find(one)
            if match is not None and match[1].id != one.id:
                found[part].append(Copy(one.id, match[0], match[1].id))
        for one in utterances:
            stretches.setdefault((one.audio_filepath, one.offset), (part, one))
            said[_words(one)].waiting.append((part, one))
    return found


def describe_copies(found: Mapping[str, Iterable[Copy]]) -> list[str]:
    """One sentence for each two parts that share recordings."""
    sentences = []
    for part, copies in found.items():
        pairs: dict[str, list[str]] = defaultdict(list)
        for copy in copies:
            pairs[copy.part].append(copy.id)
        for other, ids in pairs.items():
            shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
            sentences.append(f"{len(ids)} recordings of {part} stand in {other}, too, which flatters error rates: {shown}")
    return sentences


def _words(one: Utterance) -> tuple[str | None, str | None, float]:
    return one.text, one.phones, round(one.duration, 3)


@dataclass
class _Alike:
    """Utterances of the same words and length; those whose samples were looked at, by their digest, and those that wait."""

    seen: dict[bytes, _Place] = field(default_factory=dict)
    waiting: list[_Place] = field(default_factory=list)

    def find(self, one: Utterance) -> _Place | None:
        """The first with the same samples."""
        for place in self.waiting:
            self.seen.setdefault(_digest(place[1]), place)
        self.waiting.clear()
        digest = _digest(one)
        return self.seen.get(digest) if digest else None


def _digest(one: Utterance) -> bytes:
    """Of the samples at the recording's own rate; empty where it cannot be read."""
    from asr.data.audio import AudioWarning, inspect_audio, read_audio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            rate = inspect_audio(one.audio_filepath).sample_rate
            samples = read_audio(one.audio_filepath, sample_rate=rate, offset=one.offset, duration=one.duration or None)
        return hashlib.sha256(samples.tobytes()).digest()
    except DataError:
        return b""
