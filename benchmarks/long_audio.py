"""Long recordings through the real command: speed and memory on an hour of speech, and whether cutting it costs words.

The recordings of a manifest (speechocean762's `dev`, say) are joined end to end. `asr-decode` then decodes

* an hour of them, and ten minutes of them, as single files: real-time factor of the whole command, start-up included, by the
  clock (`rtf`) and by the processor time that it used on all cores (`cpu_rtf`, per core: what the clock would say on a quiet
  machine whose cores are all busy), and the peak of its memory for both lengths, which must be alike;
* pieces of ten minutes, once heard whole and once cut: word error rate of both against the joined transcripts;
* so many recordings of one speaker at a time, joined and heard whole, greedily: how the word error rate grows with the length.

    python benchmarks/long_audio.py --model runs/so762/characters --manifest data/dev.jsonl --lm words.arpa --beam 16

prints a table and, last, one JSON object. Everything is written to a temporary folder.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.data.audio import read_audio
from asr.data.manifest import Utterance, read_manifest
from asr.scoring.edits import count_edits

RATE = 16000
TEN_MINUTES, HOUR = 600.0, 3600.0
#: s heard at once when the ten minutes are to be cut
CUT_AT = 60
#: s by which the written durations of many recordings may be too long
SLACK = 0.1
#: recordings of one speaker joined into one
COUNTS = (1, 2, 4, 10, 20)


def joined(utterances: Sequence[Utterance], seconds: float, path: Path) -> str:
    """Write recordings end to end until so many seconds are full, from the start again where they end; returns their text."""
    texts: list[str] = []
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as sound:
        while sound.frames < (seconds - SLACK) * RATE:
            for one in utterances:
                samples = read_audio(one.audio_filepath, sample_rate=RATE, offset=one.offset, duration=one.duration)
                sound.write(np.clip(samples, -1, 1))
                texts.append(one.text or "")
                if sound.frames >= (seconds - SLACK) * RATE:
                    break
    return " ".join(texts)


def tens_of_minutes(utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """Consecutive utterances in groups of about ten minutes; what is left over joins the last group."""
    groups: list[list[Utterance]] = [[]]
    for one in utterances:
        if sum(each.duration for each in groups[-1]) >= TEN_MINUTES:
            groups.append([])
        groups[-1].append(one)
    if len(groups) > 1 and sum(one.duration for one in groups[-1]) < TEN_MINUTES / 2:
        groups[-2] += groups.pop()
    return groups


def in_groups(utterances: Sequence[Utterance], count: int) -> list[list[Utterance]]:
    """Recordings of one speaker in groups of `count`; the last group of a speaker may be smaller."""
    voices: dict[str | None, list[Utterance]] = {}
    for one in utterances:
        voices.setdefault(one.speaker, []).append(one)
    return [own[first : first + count] for own in voices.values() for first in range(0, len(own), count)]


def joined_rates(utterances: Sequence[Utterance], words: list[str], threads: int) -> dict[str, float]:
    """Word error rate for each of `COUNTS`."""
    rates = {}
    for count in COUNTS:
        with tempfile.TemporaryDirectory(prefix="long-audio-") as folder:
            paths, references = [], []
            for number, group in enumerate(in_groups(utterances, count)):
                paths.append(Path(folder) / f"{number}.wav")
                references.append(joined(group, sum(one.duration for one in group), paths[-1]))
            texts = run([*words, "decoder=greedy"], paths, threads).texts
        rates[f"wer_joined_{count}"] = round(word_error_rate(references, [texts[str(path)] for path in paths]), 2)
    return rates


@dataclass(frozen=True)
class Run:
    #: text by file
    texts: dict[str, str]
    wall_s: float
    #: of all threads together
    cpu_s: float
    peak_mb: float


def run(words: list[str], files: list[Path], threads: int) -> Run:
    """`asr-decode ... FILES`."""
    command = [sys.executable, "-m", "asr", "decode", *words, f"threads={threads}", "format=json", *map(str, files)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as shown, tempfile.TemporaryFile("w+") as told:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=shown, stderr=told, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        shown.seek(0)
        told.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{told.read()}")
        texts = {line["id"]: line["text"] for line in map(json.loads, shown)}
    return Run(texts, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    rate = count_edits(zip(references, hypotheses), "word").error_rate
    assert rate is not None, "the references hold no word"
    return 100 * rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--manifest", required=True, help="recordings with text")
    parser.add_argument("--lm", help="ARPA file")
    parser.add_argument("--beam", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=HOUR, help="length of the long recording")
    asked = parser.parse_args()
    utterances = read_manifest(asked.manifest)
    words = [f"model={asked.model}", "device=cpu"]
    beam = [*words, "decoder=beam", f"beam={asked.beam}", *([f"lm={asked.lm}"] if asked.lm else [])]
    result: dict[str, object] = {"machine": platform.processor(), "threads": asked.threads, "beam": asked.beam}
    with tempfile.TemporaryDirectory(prefix="long-audio-") as folder:
        places = Path(folder)
        ten, hour = places / "ten.wav", places / "hour.wav"
        joined(utterances, TEN_MINUTES + CUT_AT, ten)
        joined(utterances, asked.seconds, hour)
        run(beam, [ten], asked.threads)  # compiles what is compiled once
        result["peak_mb_ten_minutes"] = round(run(beam, [ten], asked.threads).peak_mb)
        result["load"] = round(os.getloadavg()[0], 1)
        done = run(beam, [hour], asked.threads)
        length = soundfile.info(hour).duration
        result |= {"peak_mb_hour": round(done.peak_mb), "hour_seconds": length, "wall_seconds": round(done.wall_s, 2)}
        result |= {"cpu_seconds": round(done.cpu_s, 2), "rtf": round(done.wall_s / length, 5)}
        result["cpu_rtf"] = round(done.cpu_s / length / asked.threads, 5)
        pieces, references = [], []
        for number, group in enumerate(tens_of_minutes(utterances)):
            pieces.append(places / f"{number}.wav")
            references.append(joined(group, sum(one.duration for one in group), pieces[-1]))
        for name, search in (("greedy", [*words, "decoder=greedy"]), ("beam", beam)):
            for way, limit in (("whole", 7200), ("split", CUT_AT)):
                texts = run([*search, f"max_seconds={limit}"], pieces, asked.threads).texts
                rate = word_error_rate(references, [texts[str(piece)] for piece in pieces])
                result[f"wer_{name}_{way}"] = round(rate, 3)
    result |= joined_rates(utterances, words, asked.threads)
    for name, value in result.items():
        print(f"{name:24} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
