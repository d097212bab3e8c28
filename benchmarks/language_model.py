"""Our modified Kneser-Ney models against KenLM's lmplz: perplexity on held-out text, time and memory of the training.

The text is real: the files given with --text (plain or gzip, folders with all their files) are cut into sentences at full stops
and blank lines, lower-cased, and reduced to words of letters; sentences of fewer than four words are left out. Every twentieth
is held out, the others are trained on until --words are full. Both programs read the same file and write ARPA. Both files are
scored by `asr-lm perplexity`, and by KenLM itself where the module `kenlm` is installed: the scorers must agree before two
models can be compared. Times are those of the whole commands, start-up included; memory is the peak of the resident set.
lmplz sorts on disk within the memory it is given (-S 1G here, counted as its own).

Text without any download but Debian's: the dictionaries in dict-gcide (Webster 1913), dict-wn (WordNet), dict-foldoc and
dict-jargon hold about ten million words of English prose, and linux-doc-6.1 some millions more.

    apt-get download dict-gcide dict-wn dict-foldoc dict-jargon linux-doc-6.1
    for each in *.deb; do dpkg-deb -x $each texts; done
    pip download --no-deps --no-binary :all: kenlm==0.3.0 && tar xzf kenlm-0.3.0.tar.gz
    cmake -S kenlm-0.3.0 -B kenlm -DCMAKE_BUILD_TYPE=Release && make -C kenlm lmplz      (needs Boost, zlib, bzip2 and lzma)
    python benchmarks/language_model.py --text texts --lmplz kenlm/bin/lmplz
    python benchmarks/language_model.py --text texts --lmplz kenlm/bin/lmplz --words 10000000

prints a table and, last, one JSON object; `ratio` is our perplexity over theirs.
"""

import argparse
import gzip
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

#: every so many sentences one is held out
HELD_OUT = 20
SHORTEST = 4
MEMORY = "1G"
ENDS = re.compile(r"(?<=[.!?;])\s+|\n\s*\n")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
PERPLEXITY = re.compile(r"perplexity ([0-9.]+) ")


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    peak_mb: float


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those below folders, in the order of their names; packed, plain and reST text only."""
    found = [each for path in paths for each in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [path for path in found if path.is_file() and path.name.removesuffix(".gz").endswith((".dz", ".txt", ".rst"))]


def sentences(paths: Iterable[Path]) -> Iterator[list[str]]:
    for path in paths:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8", "replace")
        for sentence in ENDS.split(text.lower()):
            words = WORD.findall(sentence)
            if len(words) >= SHORTEST:
                yield words


def write_parts(asked: argparse.Namespace, train: Path, held_out: Path) -> dict[str, int]:
    """Write both parts, one sentence per line; how many words they have.

    In a process of its own: a child's peak of memory counts from that of the process that starts it.
    """
    counts = {"words": 0, "held_out_words": 0}
    with train.open("w") as training, held_out.open("w") as testing:
        for number, words in enumerate(sentences(files_of(asked.text))):
            chosen, name = (testing, "held_out_words") if number % HELD_OUT == 0 else (training, "words")
            chosen.write(" ".join(words) + "\n")
            counts[name] += len(words)
            if counts["words"] >= asked.words:
                return counts
    return counts


def run(command: Sequence[str], **streams: object) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(command, **streams)  # type: ignore[call-overload]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def train_ours(asked: argparse.Namespace, train: Path, arpa: Path) -> Cost:
    words = [f"text={train}", f"order={asked.order}", f"out={arpa}"]
    return run([sys.executable, "-m", "asr", "lm", "train", *words])


def train_theirs(asked: argparse.Namespace, train: Path, arpa: Path, folder: Path) -> Cost:
    words = ["-o", str(asked.order), "-S", MEMORY, "-T", str(folder), "--text", str(train), "--arpa", str(arpa)]
    return run([str(asked.lmplz), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def perplexities(arpa: Path, text: Path) -> tuple[float, float]:
    """Of all tokens and of the known ones, by `asr-lm perplexity`."""
    command = [sys.executable, "-m", "asr", "lm", "perplexity", f"lm={arpa}", f"text={text}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = PERPLEXITY.findall(shown)
    return float(found[0]), float(found[1])


def by_kenlm(arpa: Path, text: Path) -> float | None:
    """The perplexity of all tokens as KenLM's own reader finds it."""
    try:
        import kenlm
    except ImportError:
        return None
    model, total, tokens = kenlm.Model(str(arpa)), 0.0, 0
    with text.open() as lines:
        for line in lines:
            total += model.score(line.strip(), bos=True, eos=True)
            tokens += len(line.split()) + 1
    return math.pow(10.0, -total / tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="text files, plain or gzip, or folders of them")
    parser.add_argument("--lmplz", type=Path, help="KenLM's program; without it only ours is measured")
    parser.add_argument("--words", type=int, default=1_000_000, help="words to train on (1000000)")
    parser.add_argument("--order", type=int, default=3)
    asked = parser.parse_args()
    if asked.lmplz and not asked.lmplz.is_file():
        sys.exit(f"--lmplz {asked.lmplz} is no file; build it as `{Path(__file__).name} --help` shows")
    result: dict[str, object] = {"order": asked.order, "machine": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory(prefix="language-model-") as name:
        folder = Path(name)
        train, held_out = folder / "train.txt", folder / "held-out.txt"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            counts = pool.submit(write_parts, asked, train, held_out).result()
        if counts["words"] < asked.words:
            sys.exit(f"the text has {counts['words']} words to train on, --words asks for {asked.words}; give more --text")
        print(f"{counts['words']} words to train on, {counts['held_out_words']} held out", flush=True)
        result |= counts
        arpas = {side: folder / f"{side}.arpa" for side in (("ours", "lmplz") if asked.lmplz else ("ours",))}
        for side, arpa in arpas.items():
            cost = train_ours(asked, train, arpa) if side == "ours" else train_theirs(asked, train, arpa, folder)
            print(f"{side:6} {cost.wall_s:.1f} s ({cost.cpu_s:.1f} s of processor), {cost.peak_mb:.0f} MiB", flush=True)
            result |= {f"{key}_{side}": round(value, 2) for key, value in vars(cost).items()}
        for side, arpa in arpas.items():
            all_tokens, known = perplexities(arpa, held_out)
            kenlm = by_kenlm(arpa, held_out)
            again = "" if kenlm is None else f", {kenlm:.2f} by KenLM"
            print(f"{side:6} perplexity {all_tokens:.2f}, {known:.2f} of known words{again}", flush=True)
            result |= {f"perplexity_{side}": all_tokens, f"perplexity_known_{side}": known}
            result |= {} if kenlm is None else {f"perplexity_{side}_by_kenlm": round(kenlm, 2)}
    if asked.lmplz:
        pairs = {"ratio": "perplexity", "ratio_known": "perplexity_known"}
        result |= {name: round(result[f"{key}_ours"] / result[f"{key}_lmplz"], 5) for name, key in pairs.items()}  # type: ignore
    result["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
