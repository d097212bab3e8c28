"""The small corpora, and data of one's own in folders and tables, in miniature."""

from pathlib import Path

from tests.data.corpora.miniature_open import SAID, wav

DIGITS = ("zero", "seven")


def write_yesno(root: Path) -> Path:
    """waves_yesno with recordings named after what is said in them, 8 kHz."""
    folder = root / "waves_yesno"
    for number in range(16):
        name = "_".join(f"{number:04b}")
        wav(folder / f"{name}.wav", f"{number:04b}" * 2, rate=8000, seed=number)
    (folder / "README").write_text("yesno\n")
    return folder


def write_fsdd(root: Path) -> Path:
    """recordings/DIGIT_SPEAKER_INDEX.wav, 8 kHz."""
    for speaker in ("george", "jackson"):
        for digit, word in ((0, DIGITS[0]), (7, DIGITS[1])):
            for index in range(8):
                wav(root / "recordings" / f"{digit}_{speaker}_{index}.wav", word, rate=8000, seed=index)
    (root / "README.md").write_text("Free Spoken Digit Dataset\n")
    return root


def write_speechocean762(root: Path) -> Path:
    """WAVE/, train/, test/ and resource/: two dozen speakers with one sentence each."""
    folder = root / "speechocean762"
    spoken = []
    for half, speakers in (("train", range(12)), ("test", range(50, 52))):
        keys = {f"{speaker:04d}": f"{speaker:05d}0011" for speaker in speakers}
        for speaker, key in keys.items():
            wav(folder / "WAVE" / f"SPEAKER{speaker}" / f"{key}.WAV", "we call a cab")
        files = {
            "wav.scp": [f"{key}\tWAVE/SPEAKER{speaker}/{key}.WAV" for speaker, key in keys.items()],
            "text": [f"{key}\tWE CALL" for key in keys.values()],
            "utt2spk": [f"{key} {speaker}" for speaker, key in keys.items()],
            "spk2gender": [f"{speaker}\tf" for speaker in keys],
            "spk2age": [f"{speaker}\t9" for speaker in keys],
        }
        (folder / half).mkdir()
        for name, lines in files.items():
            (folder / half / name).write_text("\n".join(lines) + "\n")
        spoken += [line for key in keys.values() for line in (f"{key}.0\tW_B IY1_E", f"{key}.1\tK_B AO0_I L_E")]
    (folder / "resource").mkdir()
    (folder / "resource" / "text-phone").write_text("\n".join(spoken) + "\n")
    return folder


def write_folder(root: Path) -> Path:
    """train/SPEAKER/NAME.wav and test/..., each with NAME.txt."""
    for part, items in (("train", SAID[:3]), ("test", SAID[3:])):
        for speaker, text in items:
            wav(root / part / speaker / "one.wav", text).with_suffix(".txt").write_text(f"{text}\n")
    return root


def write_csv(root: Path) -> Path:
    """table.csv with a column of parts, and clips/; returns the table."""
    lines = ["file,words,who,part"]
    for number, (speaker, text) in enumerate(SAID):
        wav(root / "clips" / f"{speaker}.wav", text)
        lines.append(f"clips/{speaker}.wav,{text},{speaker},{'test' if number == 3 else 'train'}")
    table = root / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def write_kaldi(root: Path) -> Path:
    """train/ and test/ with wav.scp, segments, text and utt2spk; two utterances in each recording."""
    for part, items in (("train", SAID[:3]), ("test", SAID[3:])):
        lines: dict[str, list[str]] = {name: [] for name in ("wav.scp", "segments", "text", "utt2spk")}
        for speaker, text in items:
            wav(root / "audio" / f"{speaker}.wav", f"{text} {text}")
            lines["wav.scp"].append(f"rec-{speaker} audio/{speaker}.wav")
            end = 0.08 * len(text)
            for number in (0, 1):
                lines["segments"].append(f"{speaker}-{number} rec-{speaker} {number * end:.2f} {(number + 1) * end:.2f}")
                lines["text"].append(f"{speaker}-{number} {text}")
                lines["utt2spk"].append(f"{speaker}-{number} {speaker}")
        (root / part).mkdir()
        for name, entries in lines.items():
            (root / part / name).write_text("\n".join(entries) + "\n")
    return root
