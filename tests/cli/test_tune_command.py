"""`asr-decode tune=true` as it is typed: the choice is kept where the next `asr-decode` finds it, and only what helps is on."""

import json
import shutil

import pytest

from asr.cli.decode import main
from asr.text.arpa import write_arpa
from asr.text.ngram_train import train_ngram
from tests.decoding.tiny import save_babbler, write_speech


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    return save_babbler(tmp_path_factory.mktemp("model")), write_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture
def stage(lent, tmp_path, monkeypatch):
    """A run folder, a manifest and two language models: one of what will be asked for, and one of other words."""
    model, speech = lent
    shutil.copytree(model, tmp_path / "run")
    shutil.copytree(speech, tmp_path / "data")
    write_arpa(train_ngram([["ab", "c"], ["de", "ab", "ab"], ["c", "a", "b"]], order=2), tmp_path / "words.arpa")
    write_arpa(train_ngram([["abcdeabcde"], ["edcba"]], order=2), tmp_path / "other.arpa")
    monkeypatch.setattr("asr.decoding.tune.LM_WEIGHTS", (1.0,))
    monkeypatch.setattr("asr.decoding.tune.BONUSES", (0.0,))
    monkeypatch.setattr("asr.decoding.tune.BEAMS", (4, 16))
    monkeypatch.setattr("asr.decoding.tune.AROUND", 1)
    return tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(stage, *words):
    return main([f"model={stage / 'run'}", f"manifest={stage / 'data' / 'manifest.jsonl'}", "device=cpu", *map(str, words)])


def speak(stage, *words):
    """Give each recording the text that decoding with these keys finds, and a speaker of its own."""
    assert run(stage, f"out={stage / 'spoken'}", *words) == 0
    texts = {line["id"]: line["text"] for line in read(stage / "spoken")}
    lines = [{**line, "text": texts[line["id"]], "speaker": line["id"]} for line in read(stage / "data" / "manifest.jsonl")]
    (stage / "data" / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_language_model_that_helps_is_on_the_next_time(stage, capsys):
    lm = f"lm={stage / 'words.arpa'}"
    speak(stage, lm, "lm_weight=1", "beam=16")
    capsys.readouterr()
    assert run(stage, "tune=true", lm) == 0
    shown = capsys.readouterr()
    assert "the language model helps and is on: 0.00 % word errors with it" in shown.out
    assert "better in 100.0 % of 2000 paired bootstrap draws over 10 utterances of 10 groups" in shown.out
    assert "confidence: expected calibration error" in shown.out
    assert "0.00 %" in shown.out
    written = next(line for line in shown.out.splitlines() if line.startswith("written:")).split()[1:]
    names = ["beam-words.calibration.png", "beam-words.surface.png", "beam-words.trials.json", "decode.json"]
    assert sorted(path.rsplit("/", 1)[1] for path in written) == names
    assert (stage / "run" / "decode.json").is_file()
    for name in names[:2]:
        assert (stage / "run" / "tuning" / name).read_bytes().startswith(b"\x89PNG")
    trials = json.loads((stage / "run" / "tuning" / "beam-words.trials.json").read_text())
    assert min(one["errors"] for one in trials) == 0
    (kept,) = json.loads((stage / "run" / "decode.json").read_text())["tuned"]
    assert kept["lm_weight"] > 0

    assert run(stage, f"out={stage / 'hyp'}", lm) == 0
    said = capsys.readouterr().err
    assert f"lm_weight={kept['lm_weight']:g} insertion_bonus={kept['insertion_bonus']:g} beam={kept['beam']} as tuned in" in said
    assert [line["text"] for line in read(stage / "hyp")] == [line["text"] for line in read(stage / "data" / "manifest.jsonl")]


def test_a_second_tuning_needs_no_second_pass_of_the_network(stage, capsys, monkeypatch):
    assert run(stage, "tune=true", f"lm={stage / 'words.arpa'}") == 0
    first = capsys.readouterr()
    assert "emissions of 10 utterances are in" in first.err
    monkeypatch.setattr("asr.decoding.emissions.emit", lambda *words, **named: 1 / 0)
    assert run(stage, "tune=true", f"lm={stage / 'other.arpa'}") == 0
    assert "using the emissions in" in capsys.readouterr().err
    assert len(json.loads((stage / "run" / "decode.json").read_text())["tuned"]) == 2, "each language model has its own entry"


def test_a_language_model_that_does_not_help_is_kept_off(stage, capsys):
    lm = f"lm={stage / 'other.arpa'}"
    speak(stage)  # what greedy search finds is what was said
    assert run(stage, "tune=true", lm) == 0
    assert "the language model is kept off, for it does not help for certain" in capsys.readouterr().out
    assert run(stage, f"out={stage / 'hyp'}", lm) == 0
    said = capsys.readouterr().err
    assert "the language model did not help for certain on the validation data" in said
    assert "it is off; lm_weight=VALUE turns it on" in said
    assert [line["text"] for line in read(stage / "hyp")] == [line["text"] for line in read(stage / "spoken")]
    assert run(stage, f"out={stage / 'on'}", lm, "lm_weight=3") == 0
    assert read(stage / "on") != read(stage / "hyp")


def test_what_was_tuned_without_a_language_model_is_used_without_one(stage, capsys):
    speak(stage, "decoder=beam", "insertion_bonus=-6", "beam=16")
    assert run(stage, "tune=true") == 0
    assert "beam search: " in capsys.readouterr().out
    assert run(stage, f"out={stage / 'hyp'}") == 0
    assert "decoder=beam insertion_bonus=" in capsys.readouterr().err
    assert run(stage, f"out={stage / 'greedy'}", "decoder=greedy") == 0
    wanted = [line["text"] for line in read(stage / "data" / "manifest.jsonl")]
    errors = [sum(line["text"] != text for line, text in zip(read(stage / name), wanted)) for name in ("hyp", "greedy")]
    assert errors[0] < errors[1]


def test_a_model_that_was_trained_on_is_not_decoded_with_old_weights(stage, capsys):
    lm = f"lm={stage / 'words.arpa'}"
    assert run(stage, "tune=true", lm) == 0
    other = save_babbler(stage / "new", seed=2)
    shutil.rmtree(stage / "run" / "model")
    shutil.copytree(other / "model", stage / "run" / "model")
    capsys.readouterr()
    assert run(stage, f"out={stage / 'hyp'}", lm) == 0
    assert "was tuned for another state of this model and is not used; run tune=true again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune=true", "lm_weight=1", "lm=words.arpa"], "lm_weight= has no use with tune=true"),
        (["tune=true", "nbest=3"], "nbest= has no use with tune=true"),
        (["tune=true", "words=true"], "words= has no use with tune=true"),
        (["tune=true", "decoder=greedy"], "tune= needs decoder=beam or decoder=lexicon"),
    ],
)
def test_keys_that_say_nothing_to_tuning_are_refused(stage, words, message, capsys):
    assert run(stage, *words) == 2
    assert message in capsys.readouterr().err
    assert not (stage / "run" / "decode.json").exists()


def test_tuning_needs_a_manifest_with_text(stage, capsys):
    assert main([f"model={stage / 'run'}", "tune=true"]) == 2
    lines = [{key: value for key, value in line.items() if key != "text"} for line in read(stage / "data" / "manifest.jsonl")]
    (stage / "data" / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(stage, "tune=true") == 3
    assert 'tune=true compares with "text", which "u0" of the manifest has not' in capsys.readouterr().err


def test_a_damaged_choice_is_told_and_a_new_tuning_replaces_it(stage, capsys):
    (stage / "run" / "decode.json").write_text("{}")
    assert run(stage, f"out={stage / 'hyp'}", f"lm={stage / 'words.arpa'}") == 4
    assert "run asr-decode tune=true again, or remove it" in capsys.readouterr().err
    assert run(stage, "tune=true", f"lm={stage / 'words.arpa'}") == 0
    assert run(stage, f"out={stage / 'hyp'}", f"lm={stage / 'words.arpa'}") == 0
