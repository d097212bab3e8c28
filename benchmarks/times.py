"""How far the times of recognised and aligned words lie from the truth, on speech whose truth is known.

Digits of fsdd are trimmed where their samples first and last reach 40 dB below their peak, and strings of one speaker are joined
with silence in between, before and behind, so that the start and the end of each word are known to the sample. A model that has
heard single digits only hears no strings, so one is trained on strings of the training digits:

    python benchmarks/times.py --data data/fsdd --write data/fsdd-strings
    asr-train experiment=fsdd data.dir=data/fsdd-strings run_dir=runs/fsdd-strings
    python benchmarks/times.py --data data/fsdd --model runs/fsdd-strings --picture times.png

The last command joins digits of the test part and lets the real commands find them with their default settings: `asr-decode
words=true`, and `asr-align`, which is given the words. An error is the found time minus the true one, of words that were
recognised and aligned with the reference (of all words in alignment). The silence is digital silence; --background -50 puts
white noise of that level (dB re full scale) under the whole recording.

It prints a table and, last, one JSON object, medians of absolute errors in milliseconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.data.audio import read_audio
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.scoring.edits import align

RATE = 8000
#: dB below its peak at which a digit begins and ends
TRIM = 40.0
#: s of silence between words: drawn evenly from this range
SILENCE = (0.2, 0.8)
WORDS_EACH = (3, 8)
#: ms beyond which errors are drawn at the edge of the picture
EDGE = 200
EDGES = ("starts", "ends")
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Spoken:
    text: str
    start: float
    end: float


def trimmed(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples) >= np.abs(samples).max() * 10 ** (-TRIM / 20))
    return samples[loud[0] : loud[-1] + 1]


def assemble(
    utterances: Sequence[Utterance], folder: Path, *, part: str, background: float | None, seed: int
) -> tuple[list[Utterance], dict[str, list[Spoken]]]:
    """Strings of 3 to 7 digits, each digit of the manifest in one of them; the recordings' manifest, and the truth by id."""
    draw = np.random.default_rng(seed)
    made: list[Utterance] = []
    truth: dict[str, list[Spoken]] = {}
    for speaker in sorted({one.speaker or "" for one in utterances}):
        own = [one for one in utterances if (one.speaker or "") == speaker]
        order = [own[place] for place in draw.permutation(len(own))]
        while order:
            count = int(draw.integers(*WORDS_EACH))
            string, order = order[:count], order[count:]
            pieces, words, at = [], [], 0
            for one in string:
                gap = np.zeros(round(draw.uniform(*SILENCE) * RATE), np.float32)
                digit = trimmed(read_audio(one.audio_filepath, sample_rate=RATE, offset=one.offset, duration=one.duration))
                at += len(gap)
                words.append(Spoken(one.text or "", at / RATE, (at + len(digit)) / RATE))
                at += len(digit)
                pieces += [gap, digit]
            pieces.append(np.zeros(round(draw.uniform(*SILENCE) * RATE), np.float32))
            samples = np.concatenate(pieces)
            if background is not None:
                samples = samples + draw.normal(0.0, 10 ** (background / 20), len(samples))
            name = f"{part}-{speaker}-{len(made):03d}"
            soundfile.write(folder / f"{name}.wav", np.clip(samples, -1, 1), RATE, subtype="PCM_16")
            text = " ".join(word.text for word in words)
            seconds = len(samples) / RATE
            made.append(Utterance(name, str(folder / f"{name}.wav"), seconds, text=text, speaker=speaker))
            truth[name] = words
    return made, truth


def run(*words: str) -> None:
    command = [sys.executable, "-m", "asr", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def found_words(path: Path) -> dict[str, list[Spoken]]:
    with path.open() as lines:
        records = [json.loads(line) for line in lines]
    return {one["id"]: [Spoken(word["text"], word["start"], word["end"]) for word in one["words"]] for one in records}


def errors_ms(truth: dict[str, list[Spoken]], found: dict[str, list[Spoken]]) -> tuple[np.ndarray, int]:
    """(errors (2, n) of starts and ends in ms, number of true words); n counts the words that were found as they are."""
    names = list(truth)
    alignments = align([[word.text for word in truth[name]] for name in names], [[w.text for w in found[name]] for name in names])
    rows = []
    for name, alignment in zip(names, alignments):
        true, heard = iter(truth[name]), iter(found[name])
        for pair in alignment:
            one = next(true) if pair.reference is not None else None
            other = next(heard) if pair.hypothesis is not None else None
            if one is not None and other is not None and one.text == other.text:
                rows.append((1000 * (other.start - one.start), 1000 * (other.end - one.end)))
    return np.array(rows).reshape(-1, 2).T, sum(map(len, truth.values()))


def draw(errors: dict[str, np.ndarray], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(len(errors), 2, figsize=(10, 3.2 * len(errors)), squeeze=False, layout="constrained")
    bins = np.arange(-EDGE, EDGE + 1, 10)
    for row, (way, values) in zip(grid, errors.items()):
        for axes, name, each in zip(row, EDGES, values):
            axes.hist(np.clip(each, -EDGE, EDGE), bins=bins, color="#3b6ea5")
            axes.axvline(0.0, color="black", linewidth=0.8)
            median = float(np.median(np.abs(each)))
            axes.set_title(f"{way}: {name}, median of |error| {median:.0f} ms", fontsize=11)
            axes.set_xlim(-EDGE, EDGE)
            axes.set_xlabel("found minus true, ms (the outer bars hold all beyond)")
            axes.set_ylabel("words")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def write(asked: argparse.Namespace) -> None:
    """Strings of all parts, to train on."""
    asked.write.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(PARTS):
        utterances = read_manifest(asked.data / f"{part}.jsonl")
        made, _ = assemble(utterances, asked.write, part=part, background=asked.background, seed=asked.seed + 1 + number)
        write_manifest(asked.write / f"{part}.jsonl", made)
        print(f"{part}: {len(made)} strings, {sum(one.duration for one in made):.0f} s")


def measure(asked: argparse.Namespace) -> tuple[dict[str, np.ndarray], int]:
    """The errors of each command, and the number of true words."""
    utterances = read_manifest(asked.data / f"{asked.part}.jsonl")
    errors = {}
    with tempfile.TemporaryDirectory(prefix="times-") as name:
        folder = Path(name)
        made, truth = assemble(utterances, folder, part=asked.part, background=asked.background, seed=asked.seed)
        manifest = folder / "joined.jsonl"
        write_manifest(manifest, made)
        common = (f"model={asked.model}", f"manifest={manifest}", "device=cpu")
        run("decode", *common, "words=true", f"out={folder / 'hyp.jsonl'}")
        run("align", *common, "format=json", f"out={folder / 'aligned'}")
        words = 0
        for way, path in (("asr-decode", folder / "hyp.jsonl"), ("asr-align", folder / "aligned" / "alignment.jsonl")):
            errors[way], words = errors_ms(truth, found_words(path))
    return errors, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of fsdd's manifests")
    parser.add_argument("--model", help="run of a model of strings of digits, or its model/ folder")
    parser.add_argument("--write", type=Path, help="write strings of all parts into this folder, and measure nothing")
    parser.add_argument("--part", choices=PARTS, default="test", help="digits that are joined (test)")
    parser.add_argument("--background", type=float, help="level of noise under the recordings, dB re full scale; none by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="PNG of the distribution to write")
    asked = parser.parse_args()
    if asked.write:
        return write(asked)
    if not asked.model:
        parser.error("--model is missing: a model of strings of digits, see --help")
    errors, words = measure(asked)
    result: dict[str, object] = {"part": asked.part, "background": asked.background, "words": words}
    for way, both in errors.items():
        key = way.removeprefix("asr-")
        result[f"found_{key}"] = both.shape[1]
        for edge, values in zip(EDGES, both):
            middle, far, lean = np.median(np.abs(values)), np.percentile(np.abs(values), 90), np.median(values)
            spread = f"median |error| {middle:5.1f} ms, 90th percentile {far:6.1f} ms, median error {lean:+6.1f} ms"
            print(f"{way:12} {edge:7} {spread}, {len(values)} of {words} words")
            result[f"median_abs_ms_{edge}_{key}"] = round(float(middle), 1)
            result[f"p90_abs_ms_{edge}_{key}"] = round(float(far), 1)
    if asked.picture:
        under = "digital silence between" if asked.background is None else f"noise of {asked.background:g} dB under them"
        draw(errors, asked.picture, f"Times of {words} digits of fsdd ({asked.part}), {under}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
