"""Corpora in miniature: the folders, names, headers and kinds of file of the real ones, a few tones in place of speech."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
#: Seconds of each symbol of a tone language.
STEP_S = 0.08
#: Words and their phones, in symbols of the 61 of TIMIT, glottal stop, closures and pause among them.
TIMIT_WORDS = {
    "she": ("sh", "iy"),
    "had": ("hv", "ae", "dcl", "d"),
    "act": ("q", "ae", "kcl", "tcl", "t"),
    "oily": ("q", "oy", "l", "iy"),
    "zoo": ("z", "ux"),
    "a": ("ax",),
}
TIMIT_SENTENCES = {
    "SA1": "she had oily",
    "SA2": "a zoo",
    "SI943": "she had a zoo",
    "SI1573": "act oily",
    "SX133": "a zoo act",
    "SX223": "had she a zoo",
}


def tones(symbols: Sequence[str], *, seed: int = 0) -> np.ndarray:
    """Samples (N,) int16 at 16 kHz: a tone for each symbol, its pitch made of its letters, and a little noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(STEP_S * RATE)) / RATE
    pitches = [200 + 37 * (sum(map(ord, symbol)) * 7 % 80) for symbol in symbols]
    wave = np.concatenate([0.2 * np.sin(2 * np.pi * pitch * time) for pitch in pitches])
    return np.round(32768 * (wave + draw.normal(0, 1e-3, len(wave)))).astype(np.int16)


def sphere(samples: np.ndarray, fields: Iterable[str], *, order: str = "<") -> bytes:
    """A NIST SPHERE file of 16-bit samples: a header of 1,024 bytes with these lines, low ("<") or high (">") byte first."""
    head = "\n".join(["NIST_1A", "   1024", *fields, "end_head"]) + "\n"
    return head.encode("ascii").ljust(1024) + samples.astype(f"{order}i2").tobytes()


def riff(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")


def timit_header(samples: np.ndarray, speaker: str, sentence: str) -> list[str]:
    """The lines of a header of the TIMIT disc."""
    name = f"{speaker}_{sentence}".lower()[1:]
    return [
        "database_id -s5 TIMIT",
        "database_version -s3 1.0",
        f"utterance_id -s{len(name)} {name}",
        "channel_count -i 1",
        f"sample_count -i {len(samples)}",
        "sample_rate -i 16000",
        f"sample_min -i {samples.min()}",
        f"sample_max -i {samples.max()}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
    ]


def timit_labels(sentence: str) -> dict[str, list[tuple[int, int, str]]]:
    """PHN, WRD and TXT of a sentence, in samples: silence at both ends, a pause after the first word."""
    step = round(STEP_S * RATE)
    phones: list[str] = ["h#"]
    words = []
    for number, word in enumerate(sentence.split()):
        words.append((len(phones) * step, (len(phones) + len(TIMIT_WORDS[word])) * step, word))
        phones += [*TIMIT_WORDS[word], *(["pau"] if number == 0 else [])]
    phones.append("h#")
    return {
        "PHN": [(at * step, (at + 1) * step, phone) for at, phone in enumerate(phones)],
        "WRD": words,
        "TXT": [(0, len(phones) * step, sentence.capitalize() + ".")],
    }


def write_timit(
    root: Path,
    speakers: dict[str, Sequence[str]],
    *,
    style: str = "disc",
    sentences: dict[str, str] = TIMIT_SENTENCES,
) -> Path:
    """TRAIN/DR1/FCJF0/SX37.WAV and its .PHN, .WRD, .TXT for each speaker of a half; returns the folder of TRAIN and TEST.

    style: disc (capitals, SPHERE), lower (small letters, RIFF), both (SPHERE, and RIFF as .WAV.wav beside it), riff (.WAV.wav
    alone).
    """
    folder = root / "TIMIT"
    case = str.lower if style == "lower" else str.upper
    for half, names in speakers.items():
        for number, speaker in enumerate(names):
            home = folder / case(half) / case(f"DR{number % 8 + 1}") / case(speaker)
            home.mkdir(parents=True)
            for sentence, text in sentences.items():
                labels = timit_labels(text)
                samples = tones([symbol for _, _, symbol in labels["PHN"]], seed=number)
                for kind, lines in labels.items():
                    (home / case(f"{sentence}.{kind}")).write_text("".join(f"{a} {b} {c}\n" for a, b, c in lines))
                if style in ("disc", "both"):
                    data = sphere(samples, timit_header(samples, speaker, sentence))
                    (home / case(f"{sentence}.WAV")).write_bytes(data)
                if style == "lower":
                    riff(home / case(f"{sentence}.WAV"), samples)
                if style in ("both", "riff"):
                    riff(home / f"{sentence}.WAV.wav", samples)
    return folder


def write_librispeech(root: Path, parts: dict[str, Sequence[int]], *, words: Sequence[str] = ("A BAD CAB", "DAB A BEAD")) -> Path:
    """LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac and its .trans.txt, for the speakers of each part."""
    folder = root / "LibriSpeech"
    for part, speakers in parts.items():
        for speaker in speakers:
            home = folder / part / str(speaker) / str(1000 + speaker)
            home.mkdir(parents=True)
            lines = []
            for number, text in enumerate(words):
                name = f"{speaker}-{1000 + speaker}-{number:04d}"
                soundfile.write(home / f"{name}.flac", tones(text, seed=speaker), RATE, format="FLAC", subtype="PCM_16")
                lines.append(f"{name} {text}\n")
            (home / f"{speaker}-{1000 + speaker}.trans.txt").write_text("".join(lines))
    for name in ("README.TXT", "LICENSE.TXT", "SPEAKERS.TXT"):
        (folder / name).write_text(";\n")
    return folder


def an4_header(samples: np.ndarray) -> list[str]:
    """The lines of a header of the an4_sphere archive."""
    return [
        f"sample_count -i {len(samples)}",
        "sample_n_bytes -i 2",
        "channel_count -i 1",
        "sample_byte_format -s2 10",
        "sample_rate -i 16000",
        "sample_coding -s3 pcm",
    ]


AN4_TEXTS = {"an25": "GO A B B A", "cen": "BAG EGG"}


def write_an4(root: Path, *, form: str = "sphere", order: str = ">", texts: dict[str, str] = AN4_TEXTS) -> Path:
    """an4/etc and an4/wav, four speakers and two to test on: SPHERE (.sph), or samples alone (.raw, byte order ``order``)."""
    folder = root / "an4"
    (folder / "etc").mkdir(parents=True)
    for part, home, marks in (("train", "an4_clstk", True), ("test", "an4test_clstk", False)):
        ids, lines = [], []
        for number in range(4 if part == "train" else 2):
            speaker = f"{'fm'[number % 2]}{part[1]}{'abcdefgh'[number]}x"
            for kind, text in texts.items():
                name = f"{kind}{number}-{speaker}-b"
                samples = tones(text, seed=number)
                path = folder / "wav" / home / speaker / f"{name}.{'sph' if form == 'sphere' else 'raw'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                raw = samples.astype(f"{order}i2").tobytes()
                path.write_bytes(sphere(samples, an4_header(samples), order=">") if form == "sphere" else raw)
                ids.append(f"{home}/{speaker}/{name}\n")
                lines.append(f"<s> {text} </s> ({name})\n" if marks else f"{text} ({name})\n")
        (folder / "etc" / f"an4_{part}.fileids").write_text("".join(ids))
        (folder / "etc" / f"an4_{part}.transcription").write_text("".join(lines))
    return folder


def tedlium_header(samples: np.ndarray) -> list[str]:
    """The lines of a header of TED-LIUM 3."""
    return [
        f"sample_count -i {len(samples)}",
        "sample_n_bytes -i 2",
        "channel_count -i 1",
        "sample_byte_format -s2 01",
        "sample_rate -i 16000",
        "sample_coding -s3 pcm",
    ]


TED_TEXTS = ("it 's a bad cab", "{NOISE} dad(2) fed <sil> it")


def write_tedlium(
    root: Path, talks: dict[str, Sequence[str]], *, data_only: bool = False, texts: Sequence[str] = TED_TEXTS
) -> Path:
    """TEDLIUM_release-3/legacy/PART/{sph,stm}; the training talks in data/ alone with ``data_only``.

    Each talk: a stretch to be left out, the utterances, and in training one with a word that nobody wrote down.
    """
    folder = root / "TEDLIUM_release-3"
    for part, names in talks.items():
        home = folder / "data" if data_only and part == "train" else folder / "legacy" / part
        for kind in ("sph", "stm"):
            (home / kind).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            label = "<NA>" if part == "train" else "<o,f0,male>"
            pieces = [("ignore_time_segment_in_scoring", "inter_segment_gap"), *((text, name) for text in texts)]
            pieces += [("a <unk> bead", name)] if part == "train" else []
            lines, spoken, at = [], [], 0.0
            for words, speaker in pieces:
                symbols = list(words[:14])
                end = at + STEP_S * len(symbols)
                lines.append(f"{name} 1 {speaker} {at:.2f} {end:.2f} {label} {words}\n")
                spoken += symbols
                at = end
            samples = tones(spoken, seed=number)
            (home / "sph" / f"{name}.sph").write_bytes(sphere(samples, tedlium_header(samples)))
            (home / "stm" / f"{name}.stm").write_text("".join(lines))
    (folder / "legacy").mkdir(exist_ok=True)
    return folder
