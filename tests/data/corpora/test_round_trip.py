"""Each corpus in its own format, in miniature, through the four commands: prepare, train one epoch, decode, score."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from asr.data.corpora import CORPORA
from tests.data.corpora.miniature import write_an4, write_librispeech, write_tedlium, write_timit
from tests.data.corpora.miniature_open import (
    write_audiofolder,
    write_commonvoice,
    write_lhotse,
    write_ljspeech,
    write_nemo,
    write_speechcommands,
    write_stm,
    write_vctk,
)
from tests.data.corpora.miniature_own import (
    write_csv,
    write_folder,
    write_fsdd,
    write_kaldi,
    write_speechocean762,
    write_yesno,
)

#: On top of the experiment that asr-data names: a network and a training as small as they can be.
TINY = (
    *("device=cpu", "features.num_bins=16", "encoder.layers=3", "encoder.width=8", "encoder.conv_channels=4"),
    *("training.epochs=1", "training.threads=1", "training.precision=float32", "optim.warmup_steps=2", "batches.workers=1"),
)
SPEAKERS = {"TRAIN": ["FCJF0", "MDAC0"], "TEST": ["MDAB0", "FAKS0"]}
SEVEN = {
    "train-clean-100": [19],
    "train-clean-360": [14],
    "train-other-500": [20],
    "dev-clean": [84],
    "dev-other": [116],
    "test-clean": [61],
    "test-other": [367],
}
TALKS = {"train": ["AlGore_2006"], "dev": ["AlGore_2009"], "test": ["AimeeMullins_2009P"]}
COLUMNS = ("--path-column", "file", "--text-column", "words", "--speaker-column", "who", "--split-column", "part")


@dataclass(frozen=True)
class Trip:
    """A corpus, what writes its miniature, the part that is reported, how it is scored, and reference tokens by hand."""

    corpus: str
    write: Callable[[Path], object]
    part: str
    score: tuple[str, ...]
    tokens: int
    #: Further words of asr-data.
    words: tuple[str, ...] = ("--counts", "any")


TRIPS = {
    "timit": Trip("timit", lambda root: write_timit(root, SPEAKERS), "test", ("unit=phone", "phone_set=timit39"), 44),
    "timit, merged": Trip(
        "timit",
        lambda root: write_timit(root, SPEAKERS, style="lower"),
        "test",
        ("unit=phone", "phone_set=timit39", "merge_silence=true"),
        42,
    ),
    "librispeech": Trip("librispeech", lambda root: write_librispeech(root, SEVEN), "test-other", ("unit=word",), 6),
    "mini_librispeech": Trip(
        "mini_librispeech",
        lambda root: write_librispeech(root, {"train-clean-5": [19, 26, 32], "dev-clean-2": [84]}),
        "dev",
        ("unit=char",),
        19,
    ),
    "an4, SPHERE": Trip("an4", write_an4, "test", ("unit=word",), 14),
    "an4, raw": Trip("an4", lambda root: write_an4(root, form="raw"), "test", ("unit=char",), 34),
    "tedlium": Trip("tedlium", lambda root: write_tedlium(root, TALKS), "test", ("unit=word",), 7),
    "commonvoice": Trip("commonvoice", write_commonvoice, "test", ("unit=word",), 6, ("--language", "en")),
    "vctk": Trip("vctk", write_vctk, "test", ("unit=word",), 9),
    "ljspeech": Trip("ljspeech", write_ljspeech, "test", ("unit=word",), 5),
    "speechcommands": Trip("speechcommands", write_speechcommands, "test", ("unit=char",), 8),
    "nemo": Trip("nemo", write_nemo, "test", ("unit=word",), 2, ()),
    "audiofolder, CSV": Trip("audiofolder", write_audiofolder, "test", ("unit=word",), 2, ()),
    "audiofolder, JSON": Trip("audiofolder", lambda root: write_audiofolder(root, form="jsonl"), "test", ("unit=char",), 10, ()),
    "lhotse, cuts": Trip("lhotse", write_lhotse, "test", ("unit=word",), 2, ()),
    "lhotse, pairs": Trip("lhotse", lambda root: write_lhotse(root, cuts=False), "test", ("unit=char",), 10, ()),
    "kaldi, STM": Trip("kaldi", write_stm, "test", ("unit=word",), 2, ()),
    "kaldi, segments": Trip("kaldi", write_kaldi, "test", ("unit=char",), 20, ()),
    "yesno": Trip("yesno", write_yesno, "test", ("unit=word",), 32, ()),
    "fsdd": Trip("fsdd", write_fsdd, "test", ("unit=word",), 20, ()),
    "speechocean762": Trip("speechocean762", write_speechocean762, "test", ("unit=phone",), 10, ()),
    "folder": Trip("folder", write_folder, "test", ("unit=word",), 2, ()),
    "csv": Trip("csv", write_csv, "test", ("unit=word",), 2, COLUMNS),
}


def test_no_corpus_is_forgotten():
    assert {trip.corpus for trip in TRIPS.values()} == {name for name, corpus in CORPORA.items() if not corpus.generated}


@pytest.mark.parametrize("trip", TRIPS.values(), ids=TRIPS)
def test_from_the_corpus_to_the_error_rate(trip: Trip, tmp_path: Path, capsys):
    def run(command: str, *words: object) -> str:
        code = importlib.import_module(f"asr.cli.{command}").main([str(word) for word in words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    trip.write(tmp_path / "corpus")
    root = tmp_path / "corpus" / ("table.csv" if trip.corpus == "csv" else "")
    data, model, hyp = tmp_path / "data", tmp_path / "run", tmp_path / "hyp.jsonl"
    told = run("data", "prepare", trip.corpus, "--root", root, "--out", data, *trip.words)
    experiment = told.splitlines()[-1].split()[2]
    assert experiment.startswith("experiment=")
    run("train", experiment, f"data.dir={data}", f"run_dir={model}", *TINY)
    run("decode", f"model={model}", f"manifest={data / f'{trip.part}.jsonl'}", f"out={hyp}", "device=cpu")
    run("score", f"ref={data / f'{trip.part}.jsonl'}", f"hyp={hyp}", *trip.score, f"out={tmp_path / 'score'}")
    score = json.loads((tmp_path / "score" / "score.json").read_text())
    assert (score["reference_tokens"], score["missing"], score["extra"]) == (trip.tokens, [], [])
    assert score["error_rate"] > 0
