"""asr-data as a user types it: what it writes, what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli.data import main
from asr.data.corpora import CORPORA
from asr.data.manifest import read_manifest, write_manifest


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six speakers with two recordings each, under a name no shell likes."""
    root = tmp_path / "mein Körper's #1=x"
    for speaker in "abcdef":
        (root / speaker).mkdir(parents=True)
        for number in range(2):
            soundfile.write(root / speaker / f"{number}.wav", np.full(4000, 0.01), 8000)
            (root / speaker / f"{number}.txt").write_text("ein Wort", "utf-8")
    return root


def run(*words: object, capsys) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_prepare_writes_manifests_and_says_what_to_type_next(corpus: Path, tmp_path: Path, capsys):
    out = tmp_path / "fertig ü"
    code, printed, complaints = run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)
    assert (code, complaints) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["prepare.json", "test.jsonl", "train.jsonl", "valid.jsonl"]
    assert len(read_manifest(out / "train.jsonl")) == 8
    record = json.loads((out / "prepare.json").read_text())
    assert record["parts"]["train"] == {"utterances": 8, "hours": 0.001111, "speakers": 4, "words": 16, "phones": 0}
    assert (record["corpus"], record["root"], record["options"]["seed"]) == ("folder", str(corpus), 1)
    assert record["left_out"] == {"count": 0, "kinds": {}, "parts": {}, "items": []}
    assert record["split"].startswith("split by speaker")
    rows = [line.split() for line in printed.splitlines()[:4]]
    assert rows == [
        ["part", "utterances", "hours", "speakers", "words", "phones"],
        ["train", "8", "0.001", "4", "16", "-"],
        ["valid", "2", "0.000", "1", "4", "-"],
        ["test", "2", "0.000", "1", "4", "-"],
    ]
    assert printed.splitlines()[-1] == (
        f"Next: asr-train experiment=speechocean762_characters 'data.dir={out}' run_dir=runs/folder"
    )
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_problems_are_refused_or_left_out_by_name(corpus: Path, tmp_path: Path, capsys):
    (corpus / "a" / "0.txt").unlink()
    (corpus / "b" / "1.wav").write_bytes(b"")
    out = tmp_path / "out"
    code, _, complaints = run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)
    assert code == 3
    assert "2 problems (1 no-transcript, 1 empty-file), 10 utterances usable" in complaints
    assert "0.wav: no .txt or .lab file of the same name" in complaints
    assert "1.wav: " in complaints
    assert complaints.rstrip().endswith("or leave them out with --on-bad skip.")
    assert not out.exists()
    code, printed, _ = run("prepare", "folder", "--root", corpus, "--out", out, "--on-bad", "skip", capsys=capsys)
    assert code == 0
    assert "2 left out (1 no-transcript, 1 empty-file):" in printed
    assert "Of 2 of these no part is known: parts that are drawn are drawn from the rest" in printed
    left_out = json.loads((out / "prepare.json").read_text())["left_out"]
    assert (left_out["count"], left_out["kinds"]) == (2, {"no-transcript": 1, "empty-file": 1})
    assert [item["id"] for item in left_out["items"]] == ["a/0", "b/1"]


def test_many_problems_all_stand_in_a_file(corpus: Path, tmp_path: Path, capsys):
    for number in range(30):
        (corpus / f"alone{number:02d}.txt").write_text("x")
    out = tmp_path / "out"
    code, _, complaints = run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)
    assert code == 3
    assert "... and 10 more" in complaints
    assert str(out / "problems.txt") in complaints
    assert len((out / "problems.txt").read_text().splitlines()) == 30
    assert run("prepare", "folder", "--root", corpus, "--out", out, "--on-bad", "skip", capsys=capsys)[0] == 0
    assert not (out / "problems.txt").exists()


def test_nothing_usable_and_commands_are_refused_even_with_skip(tmp_path: Path, capsys):
    root = tmp_path / "kaldi"
    root.mkdir()
    (root / "wav.scp").write_text("a gone.wav\n")
    (root / "text").write_text("a x\n")
    words = ("prepare", "kaldi", "--root", root, "--out", tmp_path / "out", "--on-bad", "skip")
    code, _, complaints = run(*words, capsys=capsys)
    assert code == 3
    assert "0 of 1 utterances usable" in complaints
    (root / "wav.scp").write_text(f"a touch {root}/canary |\n")
    code, _, complaints = run(*words, capsys=capsys)
    assert code == 3
    assert "commands are not run" in complaints
    assert not (root / "canary").exists()


def test_out_is_never_taken_from_another_corpus(corpus: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)[0] == 0
    code, _, complaints = run("prepare", "yesno", "--root", corpus, "--out", out, capsys=capsys)
    assert code == 2
    assert "already holds the corpus folder" in complaints
    (out / "prepare.json").unlink()
    code, _, complaints = run("prepare", "folder", "--root", corpus, "--out", out, capsys=capsys)
    assert code == 2
    assert "already holds train.jsonl, valid.jsonl, test.jsonl that asr-data did not write" in complaints
    code, _, complaints = run("prepare", "folder", "--root", corpus, "--out", corpus / "a" / "0.wav", capsys=capsys)
    assert code == 2
    assert "is a file, expected a folder" in complaints


def test_an_interrupted_preparation_can_be_repeated(corpus: Path, tmp_path: Path, capsys, monkeypatch):
    def interrupted(path: Path, utterances: list) -> None:
        if path.name == "valid.jsonl":
            raise KeyboardInterrupt
        write_manifest(path, utterances)

    words = ("prepare", "folder", "--root", corpus, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("asr.data.prepare.write_manifest", interrupted)
        assert run(*words, capsys=capsys)[0] == 130
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert record == {"corpus": "folder", "incomplete": True, "parts": ["train", "valid", "test"]}
    assert run(*words, capsys=capsys)[0] == 0
    assert "incomplete" not in json.loads((tmp_path / "out" / "prepare.json").read_text())


def test_a_part_that_is_gone_leaves_no_manifest(corpus: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    words = ("prepare", "folder", "--root", corpus, "--out", out)
    assert run(*words, capsys=capsys)[0] == 0
    code, printed, _ = run(*words, "--test-fraction", "0", capsys=capsys)
    assert code == 0
    assert not (out / "test.jsonl").exists()
    assert "test.jsonl of an earlier preparation removed" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "fsd", "--root", "x"], "unknown corpus 'fsd': did you mean fsdd?"),
        (["prepare"], "no CORPUS behind prepare: expected one of timit, librispeech,"),
        (["prepare", "--root", "x"], "no CORPUS behind prepare"),
        (["prepair", "fsdd"], "unknown command 'prepair': expected asr-data prepare CORPUS"),
        (["prepare", "fsdd"], "missing --root, --out"),
        (["prepare", "digits"], "missing --out"),
        (["prepare", "fsdd", "--rot", "x", "--root", "x", "--out", "y"], "unknown option '--rot': did you mean --root?"),
        (["prepare", "fsdd", "--root", "x", "--out", "y", "--seed", "one"], "--seed: expected a whole number, got 'one'"),
        (["prepare", "fsdd", "--root", "x", "--out", "y", "--valid-fraction", "2"], "--valid-fraction: expected a share"),
        (["prepare", "folder", "--root", "x", "--out", "y", "--valid-fraction", "a"], "expected a number, got 'a'"),
        (["prepare", "folder", "--root", "x", "--out", "y", "--on-bad", "ignore"], "--on-bad: "),
        (["prepare", "folder", "--root", "x", "--out", "y", "--split-by", "day"], "--split-by: "),
        (["prepare", "folder", "stray", "--root", "x", "--out", "y"], "unknown option 'stray'"),
        (["prepare", "csv", "--root", "."], "missing --out"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(words: list[str], message: str, capsys):
    code, printed, complaints = run(*words, capsys=capsys)
    assert (code, printed) == (2, "")
    assert message in complaints
    assert len(complaints.strip().splitlines()) == 1
    assert "Traceback" not in complaints


def test_a_root_that_is_not_there_is_code_3(tmp_path: Path, capsys):
    for name in CORPORA:
        if name != "digits":
            extra = ["--path-column", "p", "--text-column", "t"] if name == "csv" else []
            words = ("prepare", name, "--root", tmp_path / "absent", "--out", tmp_path / "out", *extra)
            code, _, complaints = run(*words, capsys=capsys)
            assert code == 3, name
            assert "absent: no such" in complaints
            assert not (tmp_path / "out").exists()


def test_a_file_name_that_is_no_text_survives(corpus: Path, tmp_path: Path, capsys):
    raw = os.fsencode(corpus / "a") + b"/caf\xe9"
    try:
        os.rename(corpus / "a" / "0.wav", raw + b".wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    os.rename(corpus / "a" / "0.txt", raw + b".txt")
    out = tmp_path / "out"
    code, _, complaints = run("prepare", "folder", "--root", corpus, "--out", out, "--test-fraction", 0, capsys=capsys)
    assert (code, complaints) == (0, "")
    items = [item for part in ("train", "valid") for item in read_manifest(out / f"{part}.jsonl")]
    item = next(item for item in items if item.id == "a/caf\\udce9")
    assert os.fsencode(item.audio_filepath) == raw + b".wav"


def test_csv_as_it_is_typed(corpus: Path, tmp_path: Path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("file,words\n" + "".join(f"{corpus.name}/{s}/0.wav,ja\n" for s in "abcdef"), "utf-8")
    words = ("prepare", "csv", "--root", table, "--out", tmp_path / "out", "--path-column", "file", "--text-column", "words")
    code, printed, _ = run(*words, capsys=capsys)
    assert code == 0
    assert "run_dir=runs/csv" in printed
    assert len(read_manifest(tmp_path / "out" / "train.jsonl")) == 4
    code, _, complaints = run(*words[:-2], capsys=capsys)
    assert code == 2
    assert "--text-column is missing" in complaints


def test_help_lists_every_corpus_and_loads_nothing_heavy():
    script = (
        "import sys; from asr.cli.data import main; codes = [main(words) for words in "
        "([], ['--help'], ['prepare', '--help'], *(['prepare', name, '-h'] for name in sys.argv[1:]))]; "
        "heavy = {'numpy', 'soundfile', 'torch', 'librosa', 'tqdm', 'hydra'} & set(sys.modules); "
        "sys.exit(f'{codes} {heavy}' if any(codes) or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *CORPORA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, corpus in CORPORA.items():
        assert done.stdout.count(f"  {name:15} {corpus.summary}") == 3
        assert f"asr-data prepare {name}" in done.stdout
    for option in ("--leave-out", "--path-column", "--test-fraction", "--on-bad", "--train", "--root", "--out"):
        assert option in done.stdout
