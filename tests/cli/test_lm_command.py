"""`asr-lm`: train and measure with words, characters and phones, from text and from manifests, and its mistakes."""

import gzip
import json

import pytest

from asr.cli.lm import main
from asr.text.arpa import read_arpa


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat\nthe dog sat\na cat and a dog\n" * 5)
    return path


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [("a cat", "AH0 K AE1 T"), ("the cat", "DH AH0 K AE1 T"), ("a dog", "AH0 D AO1 G")]
    fields = [
        {"id": str(n), "audio_filepath": "x.wav", "duration": 1.0, "text": t, "phones": p} for n, (t, p) in enumerate(lines)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in fields))
    return path


def test_train_then_perplexity(text, tmp_path, capsys):
    out = tmp_path / "m.arpa"
    assert main(["train", f"text={text}", "order=2", f"out={out}", "unit=word"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("15 sentences, 55 words, 6 different, and <unk>, <s>, </s>\n")
    assert f"written: {out}" in shown
    assert main(["perplexity", f"lm={out}", f"text={text}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("perplexity ")
    assert lines[0].split(" of ")[1].startswith("all 70 tokens (")
    assert "unknown (out of vocabulary): 0 of 55 words, 0.00 %" in lines


@pytest.mark.parametrize(
    ("unit", "words"), [("word", {"a", "cat", "the", "dog"}), ("phone", {"AH0", "K", "AE1", "T", "DH", "D", "AO1", "G"})]
)
def test_the_transcripts_of_a_manifest_are_a_text(unit, words, manifest, tmp_path, capsys):
    out = tmp_path / "m.arpa"
    assert main(["train", f"text={manifest}", f"unit={unit}", "order=2", f"out={out}"]) == 0
    model = read_arpa(out)
    assert {word for word in model.words if model.knows(word)} == words
    assert main(["perplexity", f"lm={out}", f"text={manifest}", f"unit={unit}"]) == 0
    assert "unknown (out of vocabulary): 0 of" in capsys.readouterr().out


def test_characters_have_a_written_space_and_phones_lose_their_stress(manifest, tmp_path):
    assert main(["train", f"text={manifest}", "unit=char", "order=3", "case=upper", f"out={tmp_path / 'c.arpa'}"]) == 0
    assert {"▁", "A", "C"} <= set(read_arpa(tmp_path / "c.arpa").words)
    assert main(["train", f"text={manifest}", "unit=phone", "phone_set=arpabet", "order=2", f"out={tmp_path / 'p.arpa'}"]) == 0
    assert {"AH", "AE", "AO"} <= set(read_arpa(tmp_path / "p.arpa").words)


def test_packed_files_in_and_out_and_several_texts(text, tmp_path):
    (tmp_path / "more.txt.gz").write_bytes(gzip.compress(b"a bird sat\n"))
    out = tmp_path / "m.arpa.gz"
    assert main(["train", f"text={text},{tmp_path / 'more.txt.gz'}", "order=3", f"out={out}"]) == 0
    assert gzip.decompress(out.read_bytes()).startswith(b"\\data\\\nngram 1=")
    assert read_arpa(out).knows("bird")


def test_a_packed_manifest_is_a_manifest(manifest, tmp_path):
    packed, out = tmp_path / "packed.jsonl.gz", tmp_path / "m.arpa"
    packed.write_bytes(gzip.compress(manifest.read_bytes()))
    assert main(["train", f"text={packed}", "order=2", f"out={out}"]) == 0
    model = read_arpa(out)
    assert {word for word in model.words if model.knows(word)} == {"a", "cat", "the", "dog"}


def test_pruning_and_rare_words(text, tmp_path):
    sizes = []
    for name, words in {"all": [], "pruned": ["prune=[0,5]"], "rare": ["min_count=6"]}.items():
        out = tmp_path / f"{name}.arpa"
        assert main(["train", f"text={text}", "order=2", f"out={out}", *words]) == 0
        sizes.append(len(out.read_text().splitlines()))
    assert sizes[0] > sizes[1]
    assert sizes[0] > sizes[2]
    assert not read_arpa(tmp_path / "rare.arpa").knows("and")


def test_a_model_that_is_there_is_kept_unless_overwriting(text, tmp_path, capsys):
    out = tmp_path / "m.arpa"
    out.write_text("mine\n")
    assert main(["train", f"text={text}", "order=2", f"out={out}"]) == 2
    assert "exists already; choose another name, or overwrite=true" in capsys.readouterr().err
    assert out.read_text() == "mine\n"
    assert main(["train", f"text={text}", "order=2", f"out={out}", "overwrite=true"]) == 0
    assert read_arpa(out).knows("cat")


def test_words_that_the_model_does_not_know_are_counted_and_listed(text, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("the unicorn sat\nthe unicorn and a bird\n")
    assert main(["train", f"text={text}", "order=2", f"out={tmp_path / 'm.arpa'}"]) == 0
    capsys.readouterr()
    assert main(["perplexity", f"lm={tmp_path / 'm.arpa'}", f"text={tmp_path / 'new.txt'}"]) == 0
    shown = capsys.readouterr().out
    assert "unknown (out of vocabulary): 3 of 8 words, 37.50 %" in shown
    assert "most frequent unknown words: unicorn 2, bird 1" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "no command"),
        (["trian"], 2, "did you mean 'train'"),
        (["train", "text=TEXT", "order=0", "out=OUT"], 2, "order"),
        (["train", "order=2", "out=OUT"], 2, "text= is missing: write asr-lm train text=FILE order=N"),
        (["train", "text=TEXT"], 2, "out= is missing"),
        (["train", "text=TEXT", "out=OUT.bin"], 2, "must end in .arpa or .arpa.gz"),
        (["train", "text=TEXT", "out=OUT", "unit=syllable"], 2, "unit"),
        (["train", "text=TEXT", "out=OUT", "ordr=3"], 2, "unknown key 'ordr': the closest known key is order"),
        (["train", "text=missing.txt", "order=2", "out=OUT"], 3, "missing.txt: no such file"),
        (["perplexity", "text=TEXT"], 2, "lm= is missing"),
        (["perplexity", "lm=TEXT", "text=TEXT"], 4, "text.txt: has no \\data\\ line; expected an ARPA language model"),
        (["perplexity", "lm=missing.arpa", "text=TEXT"], 4, "missing.arpa: no such file"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(words, code, message, text, tmp_path, capsys):
    filled = [word.replace("TEXT", str(text)).replace("OUT", str(tmp_path / "o.arpa")) for word in words]
    assert main(filled) == code
    err = capsys.readouterr().err.strip()
    assert message in err
    assert err.startswith("asr-lm: ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "o.arpa").exists()
