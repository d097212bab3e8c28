"""KenLM binaries: scores against our own reader of the ARPA file behind them; cut or damaged ones never end the process (S14)."""

import math
import shutil
import sys
from pathlib import Path

import pytest

from asr.errors import ModelError, UsageError
from asr.text.arpa import read_arpa
from asr.text.kenlm_binary import KenlmModel, read_kenlm, read_language_model
from asr.text.ngram import NgramModel
from asr.text.perplexity import measure_perplexity

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kenlm"
KINDS = ("probing", "trie", "quantized")
SENTENCES = [line.split() for line in (GOLDEN / "words.txt").read_text(encoding="utf-8").splitlines()]

pytest.importorskip("kenlm", reason="needs the extra lm")


@pytest.fixture(scope="module")
def ours() -> NgramModel:
    return read_arpa(GOLDEN / "words.arpa")


@pytest.mark.parametrize("kind", KINDS)
def test_a_binary_gives_the_scores_of_its_arpa_file(kind, ours):
    model = read_language_model(GOLDEN / f"words.{kind}.klm")
    assert isinstance(model, KenlmModel)
    assert model.order == 3
    assert sorted(model.words) == sorted(ours.words)
    # four bits for each probability leave some tenths
    exact = {"rel": 1e-5} if kind != "quantized" else {"abs": 0.7}
    for sentence in [*SENTENCES, ["unicorn", "the", "cat"], ["zoë", "dog", "unicorn", "unicorn"], []]:
        assert model.score_sentence(sentence) == pytest.approx(ours.score_sentence(sentence), **exact)
    assert [model.knows(word) for word in ("zoë", "ZOË", "unicorn", "<unk>", "<s>", "</s>")] == [True] + 5 * [False]
    assert model.id("unicorn") == model.unk
    theirs, own = (measure_perplexity(one, [*SENTENCES, ["a", "unicorn"]]) for one in (model, ours))
    assert (theirs.words, theirs.unknown, theirs.unknown_words) == (own.words, own.unknown, own.unknown_words)
    assert theirs.with_unknown == pytest.approx(own.with_unknown, rel=1e-5 if kind != "quantized" else 0.1)


def test_contexts_that_the_model_cannot_tell_apart_are_one_state():
    model = read_kenlm(GOLDEN / "words.probing.klm")

    def after(*words: str) -> int:
        state = 0
        for word in words:
            logp, state = model.score(state, model.id(word))
            assert -30 < logp <= 0
        return state

    assert after("the", "cat") == after("dog", "the", "cat") == after("unicorn", "the", "cat")
    assert after("the", "cat") != after("a", "cat")
    assert after("the", "unicorn") == after() != model.start


@pytest.mark.parametrize("kind", KINDS)
def test_s14_a_binary_cut_anywhere_is_refused(kind, tmp_path):
    whole = (GOLDEN / f"words.{kind}.klm").read_bytes()
    path = tmp_path / "cut.klm"
    for size in (60, 100, 120, 300, len(whole) // 2, len(whole) - 40, len(whole) - 6, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut\.klm: .*; the binary is cut or damaged: copy it again") as fault:
            read_language_model(path)
        assert "\n" not in str(fault.value)


def test_s14_what_kenlm_itself_cannot_load_is_tried_in_another_process(tmp_path, monkeypatch):
    """The words are all there, but not what stands before them; and a crash of KenLM must not be ours."""
    whole = bytearray((GOLDEN / "words.trie.klm").read_bytes())
    path = tmp_path / "bad.klm"
    path.write_bytes(whole[:300] + whole[340:])
    with pytest.raises(ModelError, match="KenLM c"):
        read_kenlm(path)
    whole[88] = 200  # order 200
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="KenLM c"):
        read_kenlm(path)
    monkeypatch.setattr("asr.text.kenlm_binary._TRY", "import os, signal; os.kill(os.getpid(), signal.SIGBUS)")
    with pytest.raises(ModelError, match="KenLM crashes on it"):
        read_kenlm(GOLDEN / "words.trie.klm")
    monkeypatch.setattr("asr.text.kenlm_binary._TRY", "import time; time.sleep(60)")
    monkeypatch.setattr("asr.text.kenlm_binary.CHILD_SECONDS", 0.2)
    with pytest.raises(ModelError, match=r"did not load it within 0\.2 s"):
        read_kenlm(GOLDEN / "words.trie.klm")


def test_s14_any_flipped_byte_is_an_error_or_harmless(tmp_path):
    """No flip may end this process, hang it, or give a probability above 1."""
    whole = (GOLDEN / "words.probing.klm").read_bytes()
    path = tmp_path / "flipped.klm"
    faults = []
    for place in (3, 40, 80, 88, 89, 92, 96, 100, 104, 108, 112, 116, 124, 140, len(whole) - 30):
        content = bytearray(whole)
        content[place] ^= 0x55
        path.write_bytes(content)
        try:
            model = read_language_model(path)
        except ModelError as fault:
            faults.append(str(fault))
            continue
        assert math.isfinite(model.score_sentence(["the", "cat"]))
    assert len(faults) > 8
    assert all("\n" not in fault and str(path) in fault for fault in faults)


def test_a_binary_without_words_says_how_to_make_one_with_them(tmp_path):
    content = bytearray((GOLDEN / "words.probing.klm").read_bytes())
    content[100] = 0
    (tmp_path / "bare.klm").write_bytes(content)
    with pytest.raises(ModelError, match=r"holds no vocabulary; run build_binary on its ARPA file again, without -i"):
        read_kenlm(tmp_path / "bare.klm")


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UsageError, match=r"words\.trie\.klm: a KenLM binary needs the package kenlm: pip install 'asr\[lm\]'"):
        read_language_model(GOLDEN / "words.trie.klm")


def test_the_kind_is_told_by_the_first_bytes_not_by_the_name(tmp_path, monkeypatch):
    shutil.copy(GOLDEN / "words.trie.klm", tmp_path / "m.arpa")
    shutil.copy(GOLDEN / "words.arpa", tmp_path / "m.klm")
    assert isinstance(read_language_model(tmp_path / "m.arpa"), KenlmModel)
    assert isinstance(read_language_model(tmp_path / "m.klm"), NgramModel)
    monkeypatch.chdir(tmp_path)
    assert isinstance(read_language_model("m.arpa"), KenlmModel), "a relative path"
    with pytest.raises(ModelError, match="no such file"):
        read_language_model(tmp_path / "gone.klm")
