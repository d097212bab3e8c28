"""Connected digits spoken by espeak-ng: synthetic speech to see the whole toolkit work without any corpus.

Voices, speeds, pitches, pauses and noise vary; the voices of valid and test are never heard in train. What is measured on it
says that training works, nothing about human speech.
"""

import hashlib
import io
import os
import random
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora.corpus import Prepared, option
from asr.data.corpora.espeak import SAMPLE_RATE as SPOKEN_RATE
from asr.data.corpora.espeak import Engine, Phrase, find_engine, speak
from asr.data.files import show_path
from asr.data.manifest import Utterance
from asr.errors import DataError, ResourceError, UsageError

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST_DIGITS = 6
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
#: Each variant of the voice (its vocal tract, breath and pitch) belongs to one part alone.
VARIANTS = {
    "train": (
        *("m1", "m2", "m3", "m5", "m7", "f1", "f2", "f5", "Alex", "Andrea", "Annie", "Gene", "Lee", "Michael", "adam"),
        *("belinda", "caleb", "david", "ed", "edward", "iven", "linda", "max", "paul", "Denis", "anika", "aunty", "grandma"),
        *("gustave", "marcelo", "michel", "norbert", "pedro", "quincy", "sandro", "shelby", "steph", "travis", "victor", "zac"),
    ),
    "valid": ("m8", "f4", "Jacky", "benjamin"),
    "test": ("m4", "m6", "f3", "Alicia", "Andy", "john"),
}
#: Each variant speaks with so many of the accents, in turn.
ACCENTS_PER_VARIANT = 3
#: Part of each file's name, so that a change of how the audio is made never meets audio of another kind.
FORMAT = "digits-1"


@dataclass
class DigitsOptions:
    train: int = option(1500, "utterances to make for train")
    valid: int = option(120, "utterances to make for valid")
    test: int = option(240, "utterances to make for test")
    seed: int = option(1, "seed of every draw: digits, voice, speed, pitch, pauses, noise")

    def __post_init__(self) -> None:
        for name, least in (("train", 1), ("valid", 0), ("test", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Plan:
    """All that was drawn for one utterance."""

    id: str
    voice: str
    #: Digits spoken in one breath, then those after a pause, and so on.
    groups: tuple[tuple[int, ...], ...]
    rate: int
    pitch: int
    range: int
    #: Seconds of silence before, between and after the groups; one more than there are groups.
    pauses: tuple[float, ...]
    #: Highest sample, in dB below full scale.
    peak_db: float
    #: Speech over noise.
    snr_db: float
    noise_seed: int

    @property
    def text(self) -> str:
        return " ".join(DIGITS[digit] for group in self.groups for digit in group)


def prepare(root: Path, options: DigitsOptions) -> Prepared:
    """Write the audio below ``root/audio`` and return the utterances; files of an earlier run with the same seed are kept."""
    from asr.data.audio import inspect_audio

    engine = find_engine()
    missing = [name for names in VARIANTS.values() for name in names if not engine.has_variant(name)]
    if missing:
        raise ResourceError(f"espeak-ng at {engine.data} lacks the voices {', '.join(missing)}; install espeakng-loader >= 0.2.4")
    counts = {part: count for part in VARIANTS if (count := getattr(options, part))}
    plans = {part: [draw_plan(part, number, seed=options.seed) for number in range(count)] for part, count in counts.items()}
    paths = {plan.id: root / "audio" / part / _file_name(plan, engine) for part in plans for plan in plans[part]}
    lengths: dict[str, float] = {}
    for name, path in paths.items():
        if path.exists():
            try:
                lengths[name] = inspect_audio(path).duration
            except DataError:
                path.unlink()
    made = _speak_missing([plan for part in plans.values() for plan in part], paths, lengths, engine)
    parts = {part: [_utterance(plan, paths[plan.id], lengths[plan.id]) for plan in of] for part, of in plans.items()}
    notes = [
        f"SYNTHETIC speech of espeak-ng (espeakng-loader {engine.version}): error rates on it say that training works, no more",
        f"{made} recordings made, {len(paths) - made} kept from an earlier run",
    ]
    held = "; ".join(f"{part}: {', '.join(VARIANTS[part])}" for part in plans if part != "train")
    split = (
        f"by voice: no voice variant occurs in two parts ({held}; train: {len(VARIANTS['train'])} others); seed {options.seed}"
    )
    return Prepared(parts, split, [], notes)


def voices(part: str) -> list[str]:
    """The voices of a part as ACCENT+VARIANT: each variant with some of the accents, so that every accent occurs."""
    return [
        f"{ACCENTS[(number * ACCENTS_PER_VARIANT + turn) % len(ACCENTS)]}+{variant}"
        for number, variant in enumerate(VARIANTS[part])
        for turn in range(ACCENTS_PER_VARIANT)
    ]


def draw_plan(part: str, number: int, *, seed: int) -> Plan:
    """What utterance ``number`` of a part is, as a pure function of the seed: more utterances change none of the first."""
    source = random.Random(f"{seed}/{part}/{number}")
    draw = source.random  # the one method whose values Python promises to keep

    def between(low: float, high: float) -> float:
        return low + (high - low) * draw()

    choices = voices(part)
    voice = choices[int(draw() * len(choices))]
    groups: list[list[int]] = [[]]
    for _ in range(1 + int(draw() * MOST_DIGITS)):
        if groups[-1] and draw() < 0.4:
            groups.append([])
        groups[-1].append(int(draw() * 10))
    pauses = [between(0.05, 0.3), *(between(0.08, 0.5) for _ in groups[1:]), between(0.05, 0.3)]
    return Plan(
        id=f"digits-{part}-{number:05d}",
        voice=voice,
        groups=tuple(tuple(group) for group in groups),
        rate=round(between(120, 210)),
        pitch=round(between(25, 75)),
        range=round(between(20, 80)),
        pauses=tuple(round(pause, 3) for pause in pauses),
        peak_db=round(between(-18, -2), 2),
        snr_db=round(between(15, 40), 2),
        noise_seed=int(draw() * 2**53),
    )


def mix(spoken: "Sequence[np.ndarray]", plan: Plan) -> "np.ndarray":
    """Join the groups (int16 at ``SPOKEN_RATE``) with pauses and noise; returns (N,) int16 at ``SAMPLE_RATE``."""
    import librosa
    import numpy as np
    import soxr

    pieces = [np.zeros(round(plan.pauses[0] * SPOKEN_RATE), np.float32)]
    for samples, pause in zip(spoken, plan.pauses[1:]):
        speech, _ = librosa.effects.trim(samples.astype(np.float32) / 32768, top_db=45, frame_length=512, hop_length=128)
        pieces += [speech, np.zeros(round(pause * SPOKEN_RATE), np.float32)]
    joined = soxr.resample(np.concatenate(pieces), SPOKEN_RATE, SAMPLE_RATE)
    joined *= 10 ** (plan.peak_db / 20) / max(float(np.abs(joined).max()), 1e-6)
    voiced = joined[np.abs(joined) > 1e-3]
    level = float(np.sqrt(np.mean(np.square(voiced)))) if len(voiced) else 0.0
    noise = np.random.default_rng(plan.noise_seed).standard_normal(len(joined)).astype(np.float32)
    joined += noise * level * 10 ** (-plan.snr_db / 20)
    return np.clip(np.rint(joined * 32767), -32768, 32767).astype(np.int16)


def _speak_missing(plans: Sequence[Plan], paths: dict[str, Path], lengths: dict[str, float], engine: Engine) -> int:
    """Make what ``lengths`` lacks, voice by voice, and add its seconds; returns how many recordings were made."""
    from tqdm import tqdm

    by_voice: dict[str, list[Plan]] = {}
    for plan in plans:
        by_voice.setdefault(plan.voice, []).append(plan)
    made = 0
    with tqdm(total=len(plans) - len(lengths), desc="speaking digits", unit="file", disable=None, leave=False) as bar:
        for voice, of in by_voice.items():
            for plan, spoken in _spoken(engine, voice, of, lambda plan: plan.id not in lengths):
                samples = mix(spoken, plan)
                _write_wav(paths[plan.id], samples)
                lengths[plan.id] = len(samples) / SAMPLE_RATE
                made += 1
                bar.update()
    return made


def _spoken(
    engine: Engine, voice: str, plans: Sequence[Plan], wanted: Callable[[Plan], bool]
) -> "Iterator[tuple[Plan, list[np.ndarray]]]":
    """The groups of each wanted plan. All that precede the last one are spoken too: the engine's state runs through them."""
    last = max((number for number, plan in enumerate(plans) if wanted(plan)), default=-1)
    plans = plans[: last + 1]
    phrases = [
        Phrase(" ".join(DIGITS[digit] for digit in group), plan.rate, plan.pitch, plan.range)
        for plan in plans
        for group in plan.groups
    ]
    samples = iter(speak(engine, voice, phrases) if phrases else ())
    for plan in plans:
        spoken = [next(samples) for _ in plan.groups]
        if wanted(plan):
            yield plan, spoken


def _file_name(plan: Plan, engine: Engine) -> str:
    recipe = hashlib.sha256(repr((FORMAT, engine.version, sorted(asdict(plan).items()))).encode()).hexdigest()
    return f"{plan.id}-{recipe[:10]}.wav"


def _write_wav(path: Path, samples: "np.ndarray") -> None:
    """A recording appears under its name only when it is complete; without the fsync that would cost more than the speech."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        raise ResourceError(
            f"{show_path(path)}: cannot be written: {error.strerror}; free some space or choose another --out"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _utterance(plan: Plan, path: Path, length: float) -> Utterance:
    return Utterance(plan.id, os.fspath(path), round(length, 6), text=plan.text, speaker=plan.voice, extra={"synthetic": True})
