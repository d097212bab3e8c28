"""More corpora in miniature, and the generic formats: true in names, columns and kinds of file, tones in place of speech."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.data.corpora.miniature import RATE, tones

CV_COLUMNS = (
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"),
    *("age", "gender", "accents", "variant", "locale", "segment"),
)
#: Part -> speaker and sentence of each clip.
CV_CLIPS = {
    "train": [("ada", "A bad cab."), ("ada", "Dad fed a bee!"), ("bob", "“Ace,” he said.")],
    "dev": [("cleo", "A faded cafe")],
    "test": [("dan", "It's a bead; a bad bead.")],
    "other": [("eve", "Nobody listened")],
    "invalidated": [("fay", "Nonsense")],
}


def speaker_hash(name: str) -> str:
    """A client_id: 128 hexadecimal digits."""
    return (name.encode().hex() * 64)[:128]


def write_mp3(path: Path, text: str) -> None:
    """Mono at 32 kHz, as the corpus has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(tones(text), 2) / 32768
    soundfile.write(path, samples, 2 * RATE, format="MP3", subtype="MPEG_LAYER_III")


def cv_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Tab-separated without quotation marks, as the publisher writes it."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(
            handle, CV_COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", quotechar=None, lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


def write_commonvoice(
    root: Path, clips: dict[str, list[tuple[str, str]]] = CV_CLIPS, *, language: str = "en", audio: bool = True
) -> Path:
    """cv-corpus-17.0-2024-03-15/LANGUAGE with clips/ and the tables; returns the folder of the language."""
    folder = root / "cv-corpus-17.0-2024-03-15" / language
    (folder / "clips").mkdir(parents=True)
    number = 100
    tables: dict[str, list[dict[str, str]]] = {part: [] for part in (*CV_CLIPS, "validated")}
    for part, items in clips.items():
        for speaker, sentence in items:
            number += 1
            name = f"common_voice_{language}_{number}.mp3"
            if audio:
                write_mp3(folder / "clips" / name, sentence[:12])
            row = dict.fromkeys(CV_COLUMNS, "")
            row |= {"client_id": speaker_hash(speaker), "path": name, "sentence": sentence, "locale": language}
            row |= {"up_votes": "2", "down_votes": "0", "gender": "female_feminine" if speaker < "c" else ""}
            tables[part].append(row)
            if part in ("train", "dev", "test", "validated"):
                tables["validated"].extend([row] if part != "validated" else [])
    for part, rows in tables.items():
        cv_table(folder / f"{part}.tsv", rows)
    return folder


def wav(path: Path, text: str, *, rate: int = RATE, seed: int = 0, form: str = "WAV") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tones(text, seed=seed), rate, format=form, subtype="PCM_16")
    return path


def write_ljspeech(root: Path, sentences: int = 20) -> Path:
    """LJSpeech-1.1 with metadata.csv and wavs/, 22.05 kHz."""
    folder = root / "LJSpeech-1.1"
    lines = []
    for number in range(1, sentences + 1):
        name = f"LJ001-{number:04d}"
        wav(folder / "wavs" / f"{name}.wav", "a bad cab" * 2, rate=22050, seed=number)
        lines.append(f'{name}|Dr. Cab fed {number} "bees,"|Doctor Cab fed a "bee,"\n')
    (folder / "metadata.csv").write_text("".join(lines), "utf-8")
    (folder / "README").write_text("The LJ Speech Dataset\n")
    return folder


def write_vctk(root: Path, speakers: Sequence[str] = ("p225", "p226", "p227", "p280", "p315", "s5")) -> Path:
    """VCTK-Corpus-0.92 with both microphones and the gaps of the published corpus: p315 without text, p280 without mic2."""
    folder = root / "VCTK-Corpus-0.92"
    lines = ["ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n"]
    for speaker in speakers:
        lines.append(f"{speaker}  23  F    English    Southern  England\n")
        for number in (1, 2):
            key = f"{speaker}_{number:03d}"
            for microphone in (1,) if speaker == "p280" else (1, 2):
                path = folder / "wav48_silence_trimmed" / speaker / f"{key}_mic{microphone}.flac"
                wav(path, "call a cab" * 5, rate=48000, seed=number, form="FLAC")
            if speaker != "p315":
                text = folder / "txt" / speaker / f"{key}.txt"
                text.parent.mkdir(parents=True, exist_ok=True)
                text.write_text("Please call Stella.\n" if number == 1 else "Ask her to bring a bead.")
    (folder / "speaker-info.txt").write_text("".join(lines))
    (folder / "txt" / "log.txt").write_text("")
    return folder


COMMANDS = ("bed", "cat", "go")


def write_speechcommands(root: Path) -> Path:
    """speech_commands_v0.02: a folder for each word, the lists, and background noise."""
    folder = root / "speech_commands_v0.02"
    speakers = ("0a7c2a8d", "3bb68054", "ffd2ba2f", "9db2bfe9")
    for word in COMMANDS:
        for number, speaker in enumerate(speakers):
            wav(folder / word / f"{speaker}_nohash_0.wav", word, seed=number)
    wav(folder / "_background_noise_" / "pink_noise.wav", "zzzz")
    (folder / "_background_noise_" / "README.md").write_text("noise\n")
    for name, speaker in (("validation", speakers[2]), ("testing", speakers[3])):
        (folder / f"{name}_list.txt").write_text("".join(f"{word}/{speaker}_nohash_0.wav\n" for word in COMMANDS))
    for name in ("README.md", "LICENSE"):
        (folder / name).write_text("text\n")
    return folder


#: Speaker and text of generic corpora; each text has every letter, whichever of them is drawn for valid.
SAID = [("ann", "face a bed"), ("ben", "bed a face"), ("cat", "fed a cab"), ("dov", "faced bead")]


def jsonl(path: Path, items: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_nemo(root: Path) -> Path:
    """train_manifest.json, val_manifest.json and test_manifest.json, with paths below the manifests' folder."""
    for part, items in (("train", SAID[:2]), ("val", SAID[2:3]), ("test", SAID[3:])):
        lines = []
        for speaker, text in items:
            path = wav(root / "wavs" / f"{speaker}.wav", text)
            lines.append({"audio_filepath": f"wavs/{path.name}", "duration": 0.08 * len(text), "text": text, "speaker": speaker})
        jsonl(root / f"{part}_manifest.json", lines)
    return root


def write_audiofolder(root: Path, *, form: str = "csv") -> Path:
    """train/metadata.csv (or .jsonl) and test/..., each beside its recordings."""
    for part, items in (("train", SAID[:3]), ("test", SAID[3:])):
        rows = []
        for speaker, text in items:
            path = wav(root / part / "audio" / f"{speaker}.flac", text, form="FLAC")
            rows.append({"file_name": f"audio/{path.name}", "transcription": text, "speaker_id": speaker})
        if form == "jsonl":
            jsonl(root / part / "metadata.jsonl", rows)
            continue
        with open(root / part / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return root


def lhotse_recording(path: Path, root: Path) -> dict[str, Any]:
    """As lhotse writes it, with a path below ``root``."""
    info = soundfile.info(path)
    source = {"type": "file", "channels": [0], "source": path.relative_to(root).as_posix()}
    return {
        "id": path.stem,
        "sources": [source],
        "sampling_rate": info.samplerate,
        "num_samples": info.frames,
        "duration": info.duration,
        "channel_ids": [0],
    }


def write_lhotse(root: Path, *, cuts: bool = True) -> Path:
    """my_cuts_PART.jsonl.gz, or my_recordings_PART and my_supervisions_PART; two supervisions in each recording of train."""
    for part, items in (("train", SAID[:2]), ("dev", SAID[2:3]), ("test", SAID[3:])):
        recordings, supervisions, trimmed = [], [], []
        for speaker, text in items:
            path = wav(root / "audio" / f"{speaker}.wav", f"{text} {text}")
            recording = lhotse_recording(path, root)
            recordings.append(recording)
            for number in range(2 if part == "train" else 1):
                start = round(0.08 * (len(text) + 1) * number, 6)
                said = {
                    "id": f"{speaker}-{number}",
                    "recording_id": speaker,
                    "start": start,
                    "duration": round(0.08 * len(text), 6),
                    "channel": 0,
                    "text": text,
                    "language": "en",
                    "speaker": speaker,
                }
                supervisions.append(said)
                cut = {"id": f"cut-{speaker}-{number}", "start": start, "duration": said["duration"], "channel": 0}
                trimmed.append({**cut, "supervisions": [{**said, "start": 0.0}], "recording": recording, "type": "MonoCut"})
        if cuts:
            jsonl(root / f"my_cuts_{part}.jsonl.gz", trimmed)
        else:
            jsonl(root / f"my_recordings_{part}.jsonl.gz", recordings)
            jsonl(root / f"my_supervisions_{part}.jsonl.gz", supervisions)
    return root


def write_stm(root: Path) -> Path:
    """A Kaldi folder with wav.scp and stm for each of train and test."""
    for part, items in (("train", SAID[:3]), ("test", SAID[3:])):
        folder = root / part
        folder.mkdir(parents=True)
        lines, paths = [";; a comment\n"], []
        for speaker, text in items:
            wav(folder / f"talk-{speaker}.wav", f"{text} {text}")
            paths.append(f"talk-{speaker} talk-{speaker}.wav\n")
            end = 0.08 * len(text)
            lines.append(f"talk-{speaker} 1 {speaker} 0.00 {end:.2f} <o,f0,female> {text}\n")
            lines.append(f"talk-{speaker} 1 {speaker} {end:.2f} {end + 0.08:.2f} <o> ignore_time_segment_in_scoring\n")
        (folder / "stm").write_text("".join(lines))
        (folder / "wav.scp").write_text("".join(paths))
    return root
