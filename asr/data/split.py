"""Parts of a corpus: which utterances train, which choose, which are only reported. Every draw is a function of a seed."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from asr.data.manifest import Utterance
from asr.errors import DataError

#: The parts of a prepared corpus, in the order they are listed and written.
PARTS = ("train", "valid", "dev", "test")


def carve(keys: Iterable[str], fractions: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Give a seeded share of the keys to each named part and the rest to ``train``; returns key -> part.

    A part with a fraction above 0 gets ``round(fraction * len(keys))`` keys, at least one. The keys are ranked by a hash of
    (seed, key), so the answer does not depend on their order, on the machine or on the Python version, and adding one key
    moves few others. Raises DataError when nothing would be left for ``train``.
    """
    ranked = sorted(set(keys), key=lambda key: (hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogatepass")).digest(), key))
    wanted = {part: max(1, round(share * len(ranked))) for part, share in fractions.items() if share > 0}
    if ranked and wanted and sum(wanted.values()) >= len(ranked):
        shares = ", ".join(f"{count} for {part}" for part, count in wanted.items())
        raise DataError(
            f"only {len(ranked)} to share out: {shares}, which leaves nothing for train; set a fraction to 0 or add data"
        )
    assigned = dict.fromkeys(ranked, "train")
    start = 0
    for part, count in wanted.items():
        assigned.update(dict.fromkeys(ranked[start : start + count], part))
        start += count
    return assigned


def split_utterances(
    utterances: Sequence[Utterance], fractions: Mapping[str, float], *, seed: int, by: str = "auto"
) -> tuple[dict[str, list[Utterance]], str]:
    """Share utterances out among ``train`` and the parts in ``fractions``, so that no speaker stands in two parts.

    ``by="auto"`` splits by speaker where there are at least as many speakers as parts, else by utterance; ``"speaker"`` and
    ``"utterance"`` insist. An utterance without a speaker is shared out on its own. Returns the parts and one sentence that
    says how they were made. Raises DataError when there is too little to share.
    """
    chosen = {part: share for part, share in fractions.items() if share > 0}
    speakers = {utterance.speaker for utterance in utterances if utterance.speaker is not None}
    if by == "auto":
        by = "speaker" if len(speakers) > len(chosen) else "utterance"
    keys = {utterance.id: _key(utterance, by) for utterance in utterances}
    assigned = carve(keys.values(), chosen, seed=seed)
    parts: dict[str, list[Utterance]] = {part: [] for part in PARTS if part == "train" or part in chosen}
    for utterance in utterances:
        parts[assigned[keys[utterance.id]]].append(utterance)
    shares = ", ".join(f"{part} {100 * share:g} %" for part, share in chosen.items())
    drawn = f"{shares} of the {len(set(keys.values()))} {by}s drawn with seed {seed}" if chosen else "everything in train"
    return parts, f"split by {by}: {drawn}" if chosen else drawn


def add_valid(
    parts: Mapping[str, list[Utterance]], fraction: float, *, seed: int, by: str = "auto"
) -> tuple[dict[str, list[Utterance]], str]:
    """Cut ``valid`` out of ``train`` where a corpus names its parts but has no ``valid``; returns the parts and a sentence."""
    given = {part: list(parts[part]) for part in PARTS if parts.get(part)}
    sentence = f"{', '.join(given)} as the corpus has them"
    if "valid" in given or "train" not in given or fraction <= 0:
        return given, sentence
    cut, how = split_utterances(given["train"], {"valid": fraction}, seed=seed, by=by)
    given.update(cut)
    return {part: given[part] for part in PARTS if part in given}, f"{sentence}; valid cut from train, {how}"


def shared_speakers(parts: Mapping[str, Collection[Utterance]]) -> list[str]:
    """One sentence for each pair of parts, one of them ``train``, that have speakers in common."""
    voices = {part: {utterance.speaker for utterance in items} - {None} for part, items in parts.items()}
    sentences = []
    for part in (name for name in voices if name != "train"):
        both = voices.get("train", set()) & voices[part]
        if both:
            sentences.append(f"{len(both)} of the {len(voices[part])} speakers of {part} also speak in train")
    return sentences


def _key(utterance: Utterance, by: str) -> str:
    if by == "speaker" and utterance.speaker is not None:
        return f"speaker {utterance.speaker}"
    return f"utterance {utterance.id}"
