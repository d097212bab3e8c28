"""What --download would fetch: every archive is written down completely, and what it holds is what the corpus reads."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from asr.cli.data import main
from asr.data.archive import Archive
from asr.data.corpora import CORPORA, archives
from asr.data.corpora.librispeech import LibrispeechOptions
from asr.data.corpora.yesno import YesnoOptions
from asr.data.prepare import prepare_corpus
from tests.data.corpora.miniature_open import write_speechcommands

DECLARED = {
    name: corpus.archives(corpus.options()) if callable(corpus.archives) else corpus.archives
    for name, corpus in CORPORA.items()
    if corpus.archives
}
EVERY = [archive for found in DECLARED.values() for archive in found] + list(archives.LIBRISPEECH)


def test_corpora_that_can_be_fetched():
    assert {"librispeech", "mini_librispeech", "an4", "speechocean762", "fsdd", "yesno", "vctk", "ljspeech"} < DECLARED.keys()
    assert not {"timit", "commonvoice", "tedlium", "digits", "folder", "kaldi", "csv", "nemo"} & DECLARED.keys()
    for name in DECLARED:
        assert CORPORA[name].page, name


@pytest.mark.parametrize("archive", EVERY, ids=lambda archive: archive.name)
def test_archives_are_declared_completely(archive: Archive):
    assert re.fullmatch(r"https?://[a-z0-9.-]+/[\w./-]+", archive.url)
    assert re.search(r"\.(tar\.gz|tar\.bz2|zip)$", archive.name)
    assert re.fullmatch(r"[0-9a-f]{64}|", archive.sha256)
    assert re.fullmatch(r"[0-9a-f]{32}|", archive.md5)
    assert archive.size is None or archive.size > 10**6
    assert not archive.holds.startswith("/")
    assert archive.holds.startswith(archive.into)
    pinned = bool(archive.sha256 or archive.md5)
    assert pinned == bool(archive.source) == (archive.size is not None), "a sum and a size need somebody who gives them"
    assert ("no check sum is published" in archive.describe()) is not pinned
    assert archive.url.startswith("https:") or archive.name == "an4_sphere.tar.gz", "the only one that is offered so alone"


@pytest.mark.parametrize(("hours", "parts"), [("auto", 5), ("100", 5), ("460", 6), ("960", 7)])
def test_librispeech_fetches_what_is_trained_on(hours: str, parts: int):
    chosen = archives.librispeech(LibrispeechOptions(train=hours))
    assert len(chosen) == len({archive.name for archive in chosen}) == parts
    assert sum("train" in archive.name for archive in chosen) == parts - 4


def test_a_corpus_that_was_fetched_is_read_from_its_folder(tmp_path: Path):
    """--root is the same with and without --download; what is there is not fetched, and not looked for on the network."""
    write_speechcommands(tmp_path / "root")
    words = ["prepare", "speechcommands", "--root", str(tmp_path / "root"), "--counts", "any"]
    assert main([*words, "--out", str(tmp_path / "a"), "--download"]) == 0
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "test.jsonl").read_bytes() == (tmp_path / "b" / "test.jsonl").read_bytes()
    assert not (tmp_path / "root" / ".download.lock").exists()


def test_an_archive_put_there_by_hand_needs_no_network(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    if not (shared_data / "yesno").is_dir():
        pytest.skip("needs the recordings of yesno, which are not here")
    shutil.copytree(shared_data / "yesno", tmp_path / "waves_yesno")
    shutil.make_archive(str(tmp_path / "root" / "waves_yesno"), "gztar", tmp_path, "waves_yesno")
    (archive,) = archives.YESNO
    unpinned = replace(archive, size=None, sha256="")
    monkeypatch.setitem(CORPORA, "yesno", replace(CORPORA["yesno"], archives=(unpinned,)))
    done = prepare_corpus("yesno", tmp_path / "root", tmp_path / "out", YesnoOptions(), download=True)
    assert {part: counts.utterances for part, counts in done.parts.items()} == {"train": 27, "valid": 3, "test": 30}
    told = capsys.readouterr().err.splitlines()
    path = tmp_path / "root" / "waves_yesno.tar.gz"
    assert told == [f"{path} is there; verifying", f"unpacking {path}"]


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("timit", "get it from catalog.ldc.upenn.edu/LDC93S1, unpack it and name the folder by --root"),
        ("commonvoice", "get it from commonvoice.mozilla.org/datasets (it asks for consent), unpack it"),
        ("nemo", "there is nothing that a program may fetch for nemo; put the data and name the folder by --root"),
    ],
)
def test_what_cannot_be_fetched_is_told(corpus: str, words: str, tmp_path: Path, capsys):
    assert main(["prepare", corpus, "--root", str(tmp_path / "r"), "--out", str(tmp_path / "o"), "--download"]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "r").exists()
