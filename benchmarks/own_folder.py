"""A folder of recordings in a script that no recipe has: what the one line of own data makes of it, through the real commands.

Ten SYNTHETIC voices (espeak-ng, extra `demo`) each read fifty Georgian sentences of three to six words; text and sound of each
lie side by side, one folder for each voice. `asr-train data.folder=` chooses everything, then the two commands that it prints
decode and score the voices that it set aside.

    python benchmarks/own_folder.py --out runs/georgian training.threads=1

Other words are keys of `asr-train`. Prints the score and, last, one JSON object. Synthetic voices are far easier than people:
the figures tell that the way through is open, and nothing about Georgian speech.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np

from asr.data.corpora.espeak import SAMPLE_RATE, Phrase, find_engine, speak

VOICES = ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "f4", "f5")
TAKES = 50
TEXT = (
    "მთა მდინარე სახლი წიგნი ძაღლი კატა წყალი მზე მთვარე ვარსკვლავი ცა ზღვა ქალაქი სოფელი გზა ხე ფოთოლი ყვავილი ბაღი კარი "
    "ფანჯარა მაგიდა სკამი პური ღვინო მარილი ხორცი თევზი ვაშლი ყურძენი დედა მამა ძმა და ბავშვი მეგობარი მასწავლებელი ექიმი "
    "დღე ღამე დილა საღამო ზამთარი გაზაფხული ზაფხული შემოდგომა თოვლი წვიმა ქარი ცეცხლი დიდი პატარა ახალი ძველი კარგი "
    "ლამაზი თეთრი შავი წითელი მწვანე მოდის მიდის ხედავს წერს კითხულობს მღერის სძინავს უყვარს აქვს ჭამს სვამს"
)


def synthesise(root: Path) -> float:
    """Write the recordings of all voices; returns their seconds."""
    engine, seconds = find_engine(), 0.0
    draw = np.random.default_rng(7)
    for voice in VOICES:
        texts = [" ".join(draw.choice(TEXT.split(), draw.integers(3, 7), replace=False)) for _ in range(TAKES)]
        rate, pitch = int(draw.integers(130, 180)), int(draw.integers(30, 70))
        sounds = speak(engine, f"ka+{voice}", [Phrase(text, rate, pitch, 50) for text in texts])
        folder = root / voice
        folder.mkdir(parents=True, exist_ok=True)
        for take, (text, samples) in enumerate(zip(texts, sounds, strict=True)):
            with wave.open(str(folder / f"{take:02d}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(SAMPLE_RATE)
                file.writeframes(samples.tobytes())
            (folder / f"{take:02d}.txt").write_text(f"{text}\n", encoding="utf-8")
            seconds += len(samples) / SAMPLE_RATE
    return seconds


def run(words: list[str]) -> str:
    """Run one command of `asr`, show what it says, and return that."""
    print("$", shlex.join(words), flush=True)
    command = [sys.executable, "-m", "asr", words[0].removeprefix("asr-"), *words[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            said += line
    if process.returncode:
        sys.exit(process.returncode)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the recordings and the run")
    options, keys = parser.parse_known_args()
    recordings, run_dir = options.out / "recordings", options.out / "run"
    seconds = synthesise(recordings)
    started = time.monotonic()
    said = run(["asr-train", f"data.folder={recordings}", f"run_dir={run_dir}", *keys])
    minutes = (time.monotonic() - started) / 60
    following = [shlex.split(line) for line in said.split("\nnext:\n")[1].splitlines() if line.startswith("  asr-")]
    for words in following:
        run(words)
    (report,) = run_dir.glob("score*/score.json")
    score = json.loads(report.read_text(encoding="utf-8"))
    result = {
        "synthetic": True,
        "recordings": len(VOICES) * TAKES,
        "minutes_of_speech": round(seconds / 60, 1),
        "training_minutes": round(minutes, 1),
        "word_error_rate": round(score["error_rate"], 4),
        "interval": [round(bound, 4) for bound in score["interval"]],
        "words": score["reference_tokens"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
