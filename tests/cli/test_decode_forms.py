"""`asr-decode` with every search and every form: words, tokens, times; language models, dictionaries and hot words as files."""

import json
import math

import numpy as np
import pytest
import soundfile

from asr.cli.decode import main
from asr.decoding.formats import FORMATS
from asr.text.arpa import write_arpa
from asr.text.ngram_train import train_ngram
from tests.decoding.tiny import RATE, save_babbler, tone_burst, write_speech


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    return save_babbler(tmp_path_factory.mktemp("characters"))


@pytest.fixture(scope="module")
def phones(tmp_path_factory):
    return save_babbler(tmp_path_factory.mktemp("phones"), unit="phones")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A language model of words, one of phones, a dictionary and hot words."""
    folder = tmp_path_factory.mktemp("files")
    write_arpa(train_ngram([["ab", "c"], ["de", "ab"], ["c", "a", "b"]], order=2), folder / "words.arpa")
    write_arpa(train_ngram([["AA", "B"], ["CH", "AA", "D"]], order=2), folder / "phones.arpa")
    (folder / "dict").write_text("ab AA B\nab B AA\nsea CH\nsee CH\nde D\n")
    (folder / "hot").write_text("ab\t2\nc de\n")
    return folder


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def decode(model, speech, out, *words):
    assert main([f"model={model}", f"manifest={speech / 'manifest.jsonl'}", f"out={out}", "device=cpu", *words]) == 0
    return read(out) if out.is_file() and out.suffix != ".ctm" else None


SEARCHES = {
    "greedy": [],
    "beam": ["decoder=beam"],
    "words": ["lm=FILES/words.arpa", "hotwords=FILES/hot"],
    "phones": ["decoder=beam", "lm=FILES/phones.arpa"],
    "lexicon": ["lexicon=FILES/dict", "lm=FILES/words.arpa"],
}


@pytest.mark.parametrize(
    ("unit", "search"),
    [("c", "greedy"), ("c", "beam"), ("c", "words"), ("p", "greedy"), ("p", "beam"), ("p", "phones"), ("p", "lexicon")],
)
def test_words_and_tokens_have_times_and_words_a_confidence(unit, search, characters, phones, speech, files, tmp_path):
    model = characters if unit == "c" else phones
    words = [word.replace("FILES", str(files)) for word in SEARCHES[search]]
    lines = decode(model, speech, tmp_path / "hyp", *words, "words=true")
    durations = {line["id"]: line["duration"] for line in read(speech / "manifest.jsonl")}
    spells_words = unit == "c" or search == "lexicon"
    assert sum(bool(line["words"]) for line in lines) == (10 if spells_words else 0) or search == "lexicon"
    for line in lines:
        assert " ".join(word["text"] for word in line["words"]) == (line["text"] if spells_words else "")
        spelled = "".join(token["text"] for token in line["tokens"])
        assert spelled == (line["text"] if unit == "c" else line["phones"]).replace(" ", "")
        for entries in (line["words"], line["tokens"]):
            edges = [edge for entry in entries for edge in (entry["start"], entry["end"])]
            assert edges == sorted(edges)
            assert all(entry["start"] < entry["end"] for entry in entries if entry in line["words"])
            assert not edges or (edges[0] >= 0 and edges[-1] <= durations[line["id"]] + 0.02)
        assert all(0 < word["confidence"] <= 1 for word in line["words"])
        assert all(set(token) == {"text", "start", "end"} for token in line["tokens"])
    plain = decode(model, speech, tmp_path / "plain", *words)
    assert [(line["text"], line["score"]) for line in plain] == [(line["text"], line["score"]) for line in lines]
    assert all("words" not in line for line in plain)


def test_several_hypotheses_come_best_first_each_with_its_words(characters, speech, files, tmp_path):
    lines = decode(characters, speech, tmp_path / "hyp", f"lm={files / 'words.arpa'}", "nbest=3", "words=true")
    for line in lines:
        scores = [one["score"] for one in line["nbest"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert line["nbest"][0] == {key: line[key] for key in ("text", "score", "words", "tokens")}
        assert len({one["text"] for one in line["nbest"]}) == 3


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("unit", ["characters", "phones"])
def test_every_form_is_written_without_asking_for_a_beam(form, unit, characters, phones, speech, tmp_path):
    model = characters if unit == "characters" else phones
    out = tmp_path / ("out.ctm" if form == "ctm" else "out")
    decode(model, speech, out, f"format={form}")
    suffix = FORMATS[form].suffix
    if form == "json":
        assert len(read(out)) == 10
    elif FORMATS[form].joined:
        assert {line.split(" ")[0] for line in out.read_text().splitlines()} == {f"u{number}" for number in range(10)}
    else:
        assert sorted(path.name for path in out.iterdir()) == [f"u{number}{suffix}" for number in range(10)]
        marks = {"srt": "-->", "vtt": "-->", "textgrid": f'name = "{unit}"', "elan": f'TIER_ID="{unit}"'}
        assert all(marks[form] in path.read_text(encoding="utf-8") for path in out.iterdir())


def test_files_are_printed_in_the_form_asked_for(characters, speech, tmp_path, capsys):
    assert main([f"model={characters}", "format=srt", str(speech / "u1.wav")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1\n00:00:0")
    assert (
        main([f"model={characters}", "format=srt", f"out={tmp_path / 'subs'}", *(str(speech / f"u{i}.wav") for i in (1, 2))]) == 0
    )
    assert capsys.readouterr().out == ""
    assert (tmp_path / "subs" / "u1.srt").read_text() == printed
    assert sorted(path.name for path in (tmp_path / "subs").iterdir()) == ["u1.srt", "u2.srt"]
    assert main([f"model={characters}", "format=json", "words=true", str(speech / "u1.wav")]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["id"] == str(speech / "u1.wav")
    assert line["words"]


def test_levels_move_words_and_change_no_text(characters, tmp_path):
    """A second of silence before and after the tones: with the level no word begins in it."""
    samples = np.concatenate([np.zeros(RATE), tone_burst(1.5, 3), np.zeros(RATE)]).astype(np.float32)
    samples += np.random.default_rng(1).normal(0, 1e-4, len(samples)).astype(np.float32)
    soundfile.write(tmp_path / "u.wav", samples, RATE, subtype="FLOAT")
    line = {"id": "u", "audio_filepath": "u.wav", "duration": len(samples) / RATE}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    (heard,) = decode(characters, tmp_path, tmp_path / "a", "words=true")
    (unheard,) = decode(characters, tmp_path, tmp_path / "b", "words=true", "levels=false")
    assert heard["text"] == unheard["text"]
    assert [word["confidence"] for word in heard["words"]] == [word["confidence"] for word in unheard["words"]]
    assert heard["words"] != unheard["words"]
    assert len(heard["words"]) > 1


def test_a_long_recording_has_its_times_from_its_beginning(characters, tmp_path):
    samples = tone_burst(70.0, 8)
    for start in range(4, 70, 4):
        samples[start * RATE : start * RATE + RATE // 2] *= 0.001
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"id": "u", "audio_filepath": "long.wav", "duration": 70.0}) + "\n")
    (pieces,) = decode(characters, tmp_path, tmp_path / "a", "words=true", "max_seconds=30")
    (whole,) = decode(characters, tmp_path, tmp_path / "b", "words=true", "max_seconds=600")
    for line in (pieces, whole):
        assert line["words"][-1]["end"] > 68
        edges = [edge for word in line["words"] for edge in (word["start"], word["end"])]
        assert edges == sorted(edges)
    same = {(word["text"], word["start"], word["end"]) for word in whole["words"]}
    common = [word for word in pieces["words"] if (word["text"], word["start"], word["end"]) in same]
    assert len(common) > 0.8 * len(pieces["words"])


def test_a_homophone_is_chosen_by_the_language_model(phones, speech, files, tmp_path):
    found = {}
    for word in ("sea", "see"):
        write_arpa(train_ngram([[word, "ab"], ["de", word]], order=2), tmp_path / f"{word}.arpa")
        lines = decode(phones, speech, tmp_path / word, f"lexicon={files / 'dict'}", f"lm={tmp_path / word}.arpa", "lm_weight=1")
        found[word] = " ".join(line["text"] for line in lines).split()
    assert "sea" in found["sea"]
    assert "see" not in found["sea"]
    assert [("see" if word == "sea" else word) for word in found["sea"]] == found["see"]


def test_a_hot_word_is_found_more_often_and_its_boost_is_told(characters, speech, files, tmp_path):
    plain = decode(characters, speech, tmp_path / "plain", "decoder=beam")
    (tmp_path / "hot").write_text("dab\t8\n")
    hot = decode(characters, speech, tmp_path / "hyp", f"hotwords={tmp_path / 'hot'}")
    counts = [sum(line["text"].split().count("dab") for line in lines) for lines in (plain, hot)]
    assert counts[1] > counts[0]
    (tmp_path / "hot").write_text("qqq\t8\n")
    assert (
        main(
            [
                f"model={characters}",
                f"manifest={speech / 'manifest.jsonl'}",
                f"out={tmp_path / 'x'}",
                f"hotwords={tmp_path / 'hot'}",
            ]
        )
        == 3
    )


def test_a_language_model_without_unk_is_used_and_told(characters, speech, tmp_path, capsys):
    text = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99 <s>\n-0.5 </s>\n-0.5 ab\n-0.5 c\n\n\\end\\\n"
    (tmp_path / "m.arpa").write_text(text)
    lines = decode(characters, speech, tmp_path / "hyp", f"lm={tmp_path / 'm.arpa'}")
    assert all(math.isfinite(line["score"]) for line in lines)
    assert "has no <unk>: a word it does not know gets the probability 1e-100" in capsys.readouterr().err
