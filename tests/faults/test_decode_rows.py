"""Rows V and S of the catalogue that are about decoding: searches that cannot be, models and lists that do not fit, numbers that
are none, and batches that must not matter."""

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.text.arpa import write_arpa
from asr.text.ngram_train import train_ngram
from tests.decoding.tiny import RATE, save_babbler, tone_burst, write_speech
from tests.faults.commands import fine, read_lines, to_lines, told

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kenlm"


@pytest.fixture(scope="module")
def babbler(tmp_path_factory) -> Path:
    """A model with a space among its characters, which says something about any sound."""
    return save_babbler(tmp_path_factory.mktemp("babbler"))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Ten recordings and their manifest, whose words are "a" and "b"."""
    return write_speech(tmp_path_factory.mktemp("sounds")) / "manifest.jsonl"


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    """A language model of the letters of the tones."""
    path = tmp_path_factory.mktemp("lm") / "letters.arpa"
    write_arpa(train_ngram([list("bac"), list("cacc"), list("abba")], order=2), path)
    return path


# --- V1

SEARCHES = {
    "V1-none": (["beam=0"], "beam must lie between 1 and 65536, got 0"),
    "V1-negative": (["beam=-4"], "beam must lie between 1 and 65536, got -4"),
    "V1-wider-than-all": (["beam=99999999999"], "beam must lie between 1 and 65536, got 99999999999"),
    "V1-a-word": (["beam=wide"], "beam"),
    "V1-nbest": (["beam=4", "nbest=5"], "nbest must lie between 1 and beam=4, got 5"),
    "V1-nan-weight": (["lm=LM", "lm_weight=nan"], "lm_weight must be a finite number, got nan"),
    "V1-negative-weight": (["lm=LM", "lm_weight=-1"], "lm_weight must not be negative, got -1.0"),
    "V1-infinite-bonus": (["lm=LM", "insertion_bonus=-inf"], "insertion_bonus must be a finite number, got -inf"),
    "V1-negative-risk": (["mbr=-1"], "mbr must not be negative, got -1.0"),
    "V1-negative-penalty": (["blank_penalty=-1"], "blank_penalty must not be negative, got -1.0"),
    "V1-penalty-of-greedy": (
        ["blank_penalty=1", "decoder=greedy"],
        "blank_penalty= needs decoder=beam or decoder=lexicon, got decoder=greedy",
    ),
    "V1-endless-risk": (["mbr=inf"], "mbr must be a finite number, got inf"),
    "V1-risk-of-greedy": (["mbr=1", "decoder=greedy"], "mbr= needs decoder=beam or decoder=lexicon, got decoder=greedy"),
    "V1-weight-of-nothing": (["lm_weight=1"], "lm_weight= needs lm=FILE"),
}


@pytest.mark.parametrize("row", list(SEARCHES))
def test_a_search_that_cannot_be_is_one_sentence(asr, run_dir, speech, letters, tmp_path, row):
    words, said = SEARCHES[row]
    words = [word.replace("LM", str(letters)) if word == "lm=LM" else word for word in words]
    outcome = asr("decode", f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}", *words)
    told(outcome, 2, said, alone=True)
    assert not list(tmp_path.iterdir())


def test_v1_a_beam_wider_than_all_that_there_is_is_no_fault(asr, run_dir, speech, tmp_path):
    """A beam is how many hypotheses may be kept; fewer than that is the rule, not a mistake."""
    lines = read_lines(speech / "test.jsonl")[:2]
    for line in lines:
        line["audio_filepath"] = str(speech / line["audio_filepath"])
    (tmp_path / "two.jsonl").write_bytes(to_lines(lines))
    words = [f"model={run_dir}", f"manifest={tmp_path / 'two.jsonl'}", f"out={tmp_path / 'hyp'}", "beam=65536"]
    fine(asr("decode", *words))
    assert [line["text"] for line in read_lines(tmp_path / "hyp")] == ["bac", "cacc"]


# --- V6


@pytest.mark.parametrize("form", ["json", "srt"])
def test_v6_a_killed_beam_search_goes_on_and_ends_the_same(asr, stage, babbler, sounds, tmp_path, form):
    write_arpa(train_ngram([["ab", "c"], ["de", "ab"]], order=2), tmp_path / "words.arpa")
    words = [f"model={babbler}", f"manifest={sounds}", f"lm={tmp_path / 'words.arpa'}", "device=cpu", "batch_seconds=3"]
    words += ["nbest=2", "words=true"] if form == "json" else [f"format={form}"]
    fine(asr("decode", *words, f"out={tmp_path / 'straight'}"))
    out, part = tmp_path / "killed", tmp_path / "killed.part"
    assert stage.run("decode", [*words, f"out={out}"], ("die_after_batches", {"count": 3})).code == 9
    assert not out.exists()
    done = len(read_lines(part)) - 1
    assert 0 < done < 10
    outcome = fine(asr("decode", *words, f"out={out}"))
    assert f"{done} of 10 utterances are done" in outcome.err
    assert not part.exists()
    if form == "json":
        assert out.read_bytes() == (tmp_path / "straight").read_bytes()
        return
    found, expected = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (out, tmp_path / "straight"))
    assert found == expected
    assert sorted(found) == [f"u{number}.srt" for number in range(10)]


# --- V8


@pytest.mark.parametrize("unit", ["words", "letters"])
def test_v8_a_language_model_in_upper_case_is_told_with_what_would_help(asr, babbler, sounds, tmp_path, unit):
    text = [["AB", "DE", "A"], ["BED", "A", "B"]] if unit == "words" else [["A", "B", "C", "D", "E", "▁"]]
    write_arpa(train_ngram(text, order=1), tmp_path / "upper.arpa")
    words = [f"model={babbler}", f"manifest={sounds}", f"out={tmp_path / 'hyp'}", f"lm={tmp_path / 'upper.arpa'}"]
    outcome = fine(asr("decode", *words))
    assert "warning: 100 % of the words of the manifest are unknown to the language model" in outcome.err
    assert "100 % of these would be known in upper case" in outcome.err
    write_arpa(train_ngram([[word.lower() for word in line] for line in text], order=1), tmp_path / "lower.arpa")
    outcome = fine(asr("decode", *words[:2], f"out={tmp_path / 'again'}", f"lm={tmp_path / 'lower.arpa'}"))
    assert "warning" not in outcome.err


def test_v8_so_does_asr_lm(asr, tmp_path):
    (tmp_path / "upper.txt").write_text("THE CAT SAT\nTHE DOG\n")
    (tmp_path / "lower.txt").write_text("the cat sat\nthe dog\n")
    fine(asr("lm", "train", f"text={tmp_path / 'upper.txt'}", f"out={tmp_path / 'm.arpa'}", "order=2"))
    outcome = fine(asr("lm", "perplexity", f"lm={tmp_path / 'm.arpa'}", f"text={tmp_path / 'lower.txt'}"))
    assert (
        "100 % of the words of the text are unknown to the language model; 100 % of these would be known in upper" in outcome.err
    )


# --- V9

LISTS = {
    "V9-empty": (b"# nothing yet\n\n", "hot: holds no hot word"),
    "V9-unknown-symbols": (b"abba\nzoo\n", 'hot:2: the hot word "zoo" holds "o", "z", which the model cannot write'),
    "V9-no-boost": (b"abba\tvery\n", "hot:1: the boost after the tab must be a number above 0 and at most 100"),
    "V9-latin-1": (b"abba\nb\xe4b\n", "hot:2: byte 0xE4 in column 2 is not UTF-8"),
    "V9-a-novel": (b"a" * 2000 + b"\n", "hot:1: a hot word of 2000 characters"),
    "V9-huge": (None, "hot:100001: more than 100,000 hot words"),
}


@pytest.mark.parametrize("row", list(LISTS))
def test_a_list_of_hot_words_that_cannot_be_is_told_by_its_line(asr, run_dir, speech, tmp_path, row):
    content, said = LISTS[row]
    if content is None:
        names = (f"{number:017b}" for number in range(100_001))
        content = "".join(f"{name.translate({48: 'a', 49: 'b'})}\n" for name in names).encode()
    (tmp_path / "hot").write_bytes(content)
    words = [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}", f"hotwords={tmp_path / 'hot'}"]
    told(asr("decode", *words), 3, said, alone=True)
    assert not (tmp_path / "hyp").exists()


# --- V10


def test_v10_a_beam_of_one_sums_over_paths_and_is_no_greedy_search(asr, babbler, sounds, tmp_path):
    """Of the text that greedy search writes, the sum over all paths is at least as probable as the best of them."""
    words = [f"model={babbler}", f"manifest={sounds}", "device=cpu"]
    fine(asr("decode", *words, f"out={tmp_path / 'greedy'}"))
    fine(asr("decode", *words, f"out={tmp_path / 'one'}", "decoder=beam", "beam=1"))
    fine(asr("decode", *words, f"out={tmp_path / 'wide'}", "beam=300", "nbest=300"))
    greedy, one, wide = (read_lines(tmp_path / name) for name in ("greedy", "one", "wide"))
    compared = 0
    for path, narrow, sums in zip(greedy, one, wide):
        by_text = {found["text"]: found["score"] for found in sums["nbest"]}
        assert sums["score"] >= narrow["score"] - 1e-3
        if path["text"] in by_text:
            compared += 1
            assert by_text[path["text"]] >= path["score"] - 1e-3
    assert compared > 3
    assert [line["score"] for line in one] != [line["score"] for line in greedy]


# --- V11


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_v11_neither_batches_nor_padding_nor_threads_change_a_text(asr, babbler, sounds, tmp_path, search):
    words = [f"model={babbler}", f"manifest={sounds}", "device=cpu", f"decoder={search}"]
    lines = {}
    for name, more in {"alone": ["batch_seconds=0.1", "threads=1"], "together": ["batch_seconds=500", "threads=2"]}.items():
        fine(asr("decode", *words, *more, f"out={tmp_path / name}"))
        lines[name] = read_lines(tmp_path / name)
    frames = {line["id"]: line["duration"] / 0.01 for line in read_lines(sounds)}
    for alone, together in zip(lines["alone"], lines["together"]):
        assert alone["text"] == together["text"] != ""
        assert abs(alone["score"] - together["score"]) <= 1e-4 * frames[alone["id"]]


def test_v11_a_file_by_itself_has_the_text_of_its_manifest(asr, run_dir, speech, tmp_path):
    fine(asr("decode", f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}"))
    paths = [str(speech / line["audio_filepath"]) for line in read_lines(speech / "test.jsonl")]
    printed = fine(asr("decode", f"model={run_dir}", *paths)).out
    assert [line.split("\t")[1] for line in printed.splitlines()] == [line["text"] for line in read_lines(tmp_path / "hyp")]


def test_v11_a_long_recording_has_its_text_whole_or_in_pieces(asr, run_dir, speech, tmp_path):
    pieces = []
    for line in read_lines(speech / "test.jsonl") * 15:
        samples, rate = soundfile.read(speech / line["audio_filepath"], dtype="float32")
        pieces += [samples, np.random.default_rng(1).normal(0, 1e-3, rate // 2).astype(np.float32)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(pieces), RATE)
    assert soundfile.info(tmp_path / "long.wav").duration > 100
    texts = []
    for seconds in (30, 600):
        printed = fine(asr("decode", f"model={run_dir}", f"max_seconds={seconds}", str(tmp_path / "long.wav"))).out
        texts.append(printed.split("\t")[1])
    assert texts[0] == texts[1]
    assert len(texts[0]) > 200


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_v11_a_gpu_writes_what_the_processor_writes(asr, babbler, sounds, tmp_path, search):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    words = [f"model={babbler}", f"manifest={sounds}", f"decoder={search}"]
    for device in ("cpu", "cuda"):
        fine(asr("decode", *words, f"device={device}", f"out={tmp_path / device}"))
    for one, other in zip(read_lines(tmp_path / "cpu"), read_lines(tmp_path / "cuda")):
        assert one["text"] == other["text"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-3)


# --- V12


@pytest.mark.parametrize("search", ["greedy", "beam"])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_v12_no_word_is_invented_for_samples_that_are_no_numbers(asr, babbler, tmp_path, search, value):
    samples = tone_burst(1.0, 2)
    soundfile.write(tmp_path / "good.wav", samples, RATE, subtype="FLOAT")
    samples[100:200] = value
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    lines = [{"id": name, "audio_filepath": f"{name}.wav", "duration": 1.0} for name in ("bad", "good")]
    (tmp_path / "manifest.jsonl").write_bytes(to_lines(lines))
    words = [f"model={babbler}", f"decoder={search}"]
    outcome = asr("decode", *words, f"manifest={tmp_path / 'manifest.jsonl'}", f"out={tmp_path / 'hyp'}")
    told(outcome, 3, "1 of 2 recordings could not be decoded")
    bad, good = read_lines(tmp_path / "hyp")
    assert bad["text"] == ""
    assert "holds NaN or infinite samples" in bad["error"]
    assert good["text"]
    outcome = asr("decode", *words, str(tmp_path / "bad.wav"))
    told(outcome, 3, "1 of 1 files could not be decoded")
    assert outcome.out == f"{tmp_path / 'bad.wav'}\t\n"
    outcome = asr("align", f"model={babbler}", f"manifest={tmp_path / 'manifest.jsonl'}", f"out={tmp_path / 'times'}")
    told(outcome, 3, "could not be aligned")
    assert (
        "words" not in (tmp_path / "times" / "alignment.jsonl").read_text().splitlines()[0]
        or not json.loads((tmp_path / "times" / "alignment.jsonl").read_text().splitlines()[0])["words"]
    )


# --- S13

ARPA = r"""\data\
ngram 1=5
ngram 2=2

\1-grams:
-1.0 <unk>
-99 <s> -0.5
-0.7 </s>
-0.2 a -0.3
-0.4 b

\2-grams:
-0.1 <s> a
-0.4 a b

\end\
"""
DAMAGES = {
    "S13-too-few": ("ngram 2=2", "ngram 2=3", "the header promises 3 2-grams, the file has 2"),
    "S13-too-many": ("ngram 1=5", "ngram 1=4", "the header promises 4 1-grams, the file has 5"),
    "S13-no-end": ("\\end\\\n", "", r"it has no \end\ and is cut"),
    "S13-cut-in-a-line": ("-0.4 a b\n\n\\end\\\n", "-0.4", "the file ends where"),
    "S13-nan": ("-0.4 a b", "nan a b", 'log10 of a probability must be 0 or less, got "nan"'),
    "S13-positive": ("-0.4 a b", "0.4 a b", 'log10 of a probability must be 0 or less, got "0.4"'),
    "S13-no-number": ("-0.4 a b", "O.4 a b", "expected numbers around the words"),
    "S13-infinite-back-off": ("-0.2 a -0.3", "-0.2 a inf", "the logarithm of a back-off weight must be a finite number"),
    "S13-order-0": ("ngram 1=5\nngram 2=2\n", "", "the model has order 0"),
    "S13-order-99": ("ngram 2=2\n", "".join(f"ngram {n}=1\n" for n in range(2, 100)), "the model has order 99"),
    "S13-twice": ("-0.4 a b", "-0.1 <s> a", 'the 2-gram "<s> a" stands twice'),
    "S13-foreign-word": ("-0.4 a b", "-0.4 a z", 'the word "z" is not among the 1-grams'),
    "S13-no-sentence-end": ("-0.7 </s>", "-0.7 c", "has no </s> among its 1-grams"),
    "S13-not-an-arpa": (ARPA, "a b c\n" * 2000, r"no \data\ in the first 1000 lines"),
    "S13-ten-gigabytes": ("ngram 2=2", "ngram 2=400000000", "the header promises 400000005 n-grams, more than its"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("row", list(DAMAGES))
def test_a_damaged_language_model_is_refused_before_anything_is_decoded(asr, babbler, sounds, tmp_path, row, packed):
    old, new, said = DAMAGES[row]
    assert old in ARPA
    path = tmp_path / ("bad.arpa.gz" if packed else "bad.arpa")
    content = ARPA.replace(old, new, 1).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    outcome = asr("decode", f"model={babbler}", f"manifest={sounds}", f"out={tmp_path / 'hyp'}", f"lm={path}")
    told(outcome, 4, str(path), said, alone=True)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    (tmp_path / "text").write_text("a b\n")
    told(asr("lm", "perplexity", f"lm={path}", f"text={tmp_path / 'text'}"), 4, str(path), said, alone=True)


def test_s13_a_cut_gzip_file_is_refused(asr, babbler, sounds, tmp_path):
    path = tmp_path / "cut.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode())[:-20])
    outcome = asr("decode", f"model={babbler}", f"manifest={sounds}", f"out={tmp_path / 'hyp'}", f"lm={path}")
    told(outcome, 4, "cut.arpa.gz: the gzip data is cut or damaged near byte", alone=True)


def test_s13_without_unk_there_is_a_warning(asr, babbler, sounds, tmp_path):
    (tmp_path / "m.arpa").write_text(ARPA.replace("-1.0 <unk>\n", "").replace("ngram 1=5", "ngram 1=4"))
    outcome = fine(
        asr("decode", f"model={babbler}", f"manifest={sounds}", f"out={tmp_path / 'hyp'}", f"lm={tmp_path / 'm.arpa'}")
    )
    assert "m.arpa: has no <unk>: a word it does not know gets the probability 1e-100" in outcome.err
    (tmp_path / "text").write_text("a b\n")
    outcome = fine(asr("lm", "perplexity", f"lm={tmp_path / 'm.arpa'}", f"text={tmp_path / 'text'}"))
    assert "m.arpa: has no <unk>" in outcome.err


# --- S14


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["probing", "trie"])
def test_s14_a_cut_kenlm_binary_is_refused_and_kills_nothing(asr, tmp_path, kind, share):
    pytest.importorskip("kenlm", reason="needs the extra lm")
    whole = (GOLDEN / f"words.{kind}.klm").read_bytes()
    (tmp_path / "cut.klm").write_bytes(whole[: int(share * len(whole))])
    words = ["perplexity", f"lm={tmp_path / 'cut.klm'}", f"text={GOLDEN / 'words.txt'}"]
    told(asr("lm", *words), 4, "cut.klm: ", "the binary is cut or damaged: copy it again", alone=True)
    shutil.copy(GOLDEN / f"words.{kind}.klm", tmp_path / "cut.klm")
    assert "perplexity" in fine(asr("lm", *words)).out


def test_s14_without_the_extra_the_error_names_it(asr, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    outcome = asr("lm", "perplexity", f"lm={GOLDEN / 'words.trie.klm'}", f"text={GOLDEN / 'words.txt'}")
    told(outcome, 2, "words.trie.klm: a KenLM binary needs the package kenlm: pip install 'asr[lm]'", alone=True)
