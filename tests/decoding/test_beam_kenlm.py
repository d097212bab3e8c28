"""Beam search with a KenLM binary finds what it finds with the ARPA file behind it."""

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from asr.cli.decode import main
from asr.decoding import beam_lookahead
from asr.decoding.beam import BeamDecoder, BeamOptions
from asr.text.arpa import read_arpa
from asr.text.hotwords import HotWords
from asr.text.kenlm_binary import read_kenlm
from asr.text.lexicon import Lexicon
from asr.text.tokenizer import Tokenizer, TokenOptions
from tests.decoding.enumerated import emissions
from tests.decoding.tiny import save_babbler, write_speech

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kenlm"
LETTERS = Tokenizer.build(["the cat sat on a mat dog zoë"], TokenOptions())

pytest.importorskip("kenlm", reason="needs the extra lm")


@pytest.fixture(scope="module")
def arpa():
    return read_arpa(GOLDEN / "words.arpa")


@pytest.fixture(scope="module", params=["probing", "trie"])
def binary(request):
    return read_kenlm(GOLDEN / f"words.{request.param}.klm")


def spoken(text, seed):
    """Emissions of a text in which other letters are nearly as likely."""
    rows = []
    for token in LETTERS.encode(text):
        rows += [[token] * 2, [0]]
    path = [symbol for row in rows for symbol in row]
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(len(path), len(LETTERS)))
    logits[np.arange(len(path)), path] += 3.0
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.fixture
def one_lookahead(monkeypatch):
    """The ARPA file looked ahead in as the binary is, whose contexts cannot be listed: without any."""
    monkeypatch.setattr(beam_lookahead, "in_context", lambda *given, **weights: beam_lookahead.without_context(*given[:3]))


@pytest.mark.usefixtures("one_lookahead")
@pytest.mark.parametrize("lexicon", [False, True], ids=["free", "lexicon"])
def test_hypotheses_and_scores_are_those_of_the_arpa_file(arpa, binary, lexicon):
    words = Lexicon.of_words([word for word in arpa.words if arpa.knows(word)] + ["than", "hat"]) if lexicon else None
    hot = HotWords(("cat sat",), (1.5,))
    options = BeamOptions(beam=32, nbest=8, lm_weight=0.8, insertion_bonus=0.5)
    ours, theirs = (BeamDecoder(LETTERS, options, language_model=model, lexicon=words, hotwords=hot) for model in (arpa, binary))
    assert ours.notices == theirs.notices
    texts = set()
    for seed, text in enumerate(["the cat sat on the mat", "a dog and a cat", "zoë sat", "hat"]):
        found = [decoder.decode(spoken(text, seed), frame_shift_s=0.02) for decoder in (ours, theirs)]
        assert [one.text for one in found[0]] == [one.text for one in found[1]]
        assert [one.score for one in found[0]] == pytest.approx([one.score for one in found[1]], abs=1e-4)
        assert [word.confidence for word in found[0][0].words] == pytest.approx(
            [word.confidence for word in found[1][0].words], abs=1e-4
        )
        texts.add(found[0][0].text)
    assert len(texts) == 4
    assert "the cat sat on the mat" in texts


@pytest.mark.usefixtures("one_lookahead")
def test_threads_do_not_disturb_each_other(arpa, binary):
    batch = [emissions(40, len(LETTERS), seed=seed) for seed in range(12)]
    options = BeamOptions(lm_weight=1.0)
    decoder = BeamDecoder(LETTERS, options, language_model=binary)
    alone = [decoder.decode(each)[0].text for each in batch]
    assert [one[0].text for one in decoder.decode_batch(batch, threads=4)] == alone
    assert alone == [BeamDecoder(LETTERS, options, language_model=arpa).decode(each)[0].text for each in batch]


def test_what_was_met_is_forgotten_with_each_utterance(binary):
    decoder = BeamDecoder(LETTERS, BeamOptions(lm_weight=1.0), language_model=binary)
    sizes = []

    def work():
        for _ in range(4):
            decoder.decode(emissions(60, len(LETTERS), seed=1))
            sizes.append(len(binary._threads.met.states))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert len(set(sizes)) == 1
    assert sizes[0] > 2


def test_the_functions_live_as_long_as_the_model():
    """The addresses in the tables of a decoder must not outlive what they point at."""
    decoder = BeamDecoder(LETTERS, BeamOptions(lm_weight=1.0), language_model=read_kenlm(GOLDEN / "words.trie.klm"))
    gc.collect()
    assert decoder.decode(emissions(30, len(LETTERS), seed=2))


@pytest.mark.usefixtures("one_lookahead")
def test_asr_decode_takes_a_binary_and_names_the_extra_without_it(tmp_path, capsys, monkeypatch):
    model, speech = save_babbler(tmp_path / "run"), write_speech(tmp_path)
    words = [f"model={model}", f"manifest={speech / 'manifest.jsonl'}", "device=cpu", f"lm={GOLDEN / 'words.trie.klm'}"]
    assert main([*words, f"out={tmp_path / 'binary'}", "lm_weight=1"]) == 0
    assert main([*words[:-1], f"lm={GOLDEN / 'words.arpa'}", f"out={tmp_path / 'arpa'}", "lm_weight=1"]) == 0
    assert (tmp_path / "binary").read_bytes() == (tmp_path / "arpa").read_bytes()
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "kenlm", None)
    assert main([*words, f"out={tmp_path / 'hyp'}"]) == 2
    assert "a KenLM binary needs the package kenlm: pip install 'asr[lm]'" in capsys.readouterr().err
