"""Weights found on emissions that stand for known text; confidences, bootstrap and files against what they must be."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from asr.data.manifest import Utterance, read_manifest
from asr.decoding import tune_manifest as tune_manifest_module
from asr.decoding.calibrate import apply_map, bin_rows, calibration_error, fit_calibration
from asr.decoding.emissions import fingerprint, load_emissions, save_emissions
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.options import DecodeOptions
from asr.decoding.search import Search, Sources, Weights, choose_weights, open_search, with_blank_penalty
from asr.decoding.tune import MBR, Bench, Trial, best_trial, group_by_speaker, lowest, reference_tokens, share_of_wins, tune
from asr.decoding.tune_manifest import tune_manifest, verdict
from asr.decoding.tune_pictures import draw_calibration, draw_surface, table
from asr.decoding.tuned import Tuned, find_tuned, read_tuned, tuned_path, write_tuned
from asr.errors import DataError, ModelError, UsageError
from asr.text.arpa import write_arpa
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer, TokenOptions

WORDS = ("ab", "cab", "dace", "bed", "ace", "dab")
TOKENS = Tokenizer.build(["ab cde"], TokenOptions())


def sentences(count, seed):
    """Words that follow each other in one order, begun anywhere: what a language model can learn."""
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, len(WORDS), count)
    return [[WORDS[(start + place) % len(WORDS)] for place in range(4)] for start in starts]


def spoken(words, seed, doubt):
    """Emissions (T, V) of a text: two frames a letter and blanks between; with `doubt` another letter seems likelier."""
    draw = np.random.default_rng(seed)
    rows = []
    for token in TOKENS.encode(" ".join(words)):
        row = np.full(len(TOKENS), 0.02)
        row[token] = 0.5
        if draw.random() < doubt:
            row[draw.integers(1, len(TOKENS))] += 0.55
        rows += [row, row, np.eye(len(TOKENS))[0] + 0.02]
    values = np.array(rows)
    return np.log(values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def make_bench(model, count=24, doubt=0.2, **named):
    references = sentences(count, 5)
    emissions = [spoken(words, number, doubt) for number, words in enumerate(references)]
    ticks = itertools.count()
    sources = Sources(language_model=model)
    bench = Bench(TOKENS, sources, DecodeOptions(), emissions, references, clock=lambda: float(next(ticks)), **named)
    return bench, [Utterance(f"u{i}", "x.wav", 1.0, text="-", speaker=f"s{i % 6}") for i in range(count)]


@pytest.fixture(scope="module")
def good_model():
    return train_ngram(sentences(60, 1), order=2)


@pytest.fixture(scope="module")
def helped(good_model):
    tried = []
    bench, utterances = make_bench(good_model, tried=tried.append)
    return tune(bench, utterances, "beam", unit="word"), bench, tried


def test_a_language_model_that_helps_is_on_with_the_weights_of_fewest_errors(helped):
    tuning, bench, tried = helped
    assert tuning.lm_helps
    assert tuning.best.weights.lm_weight > 0
    assert tuning.best.total < tuning.without.total <= tuning.greedy.total
    assert tuning.lm_better > 0.95
    assert len({one.weights for one in tried}) == len(tried) == len(tuning.trials), "nothing is tried twice"
    assert tuning.with_lm.total == min(one.total for one in tuning.trials if one.weights.lm_weight > 0 and one.weights.beam == 16)
    again = Bench(TOKENS, bench.sources, DecodeOptions(), bench.emissions, bench.references, clock=lambda: 0.0)
    assert again.measure(tuning.best.weights).total == tuning.best.total
    assert "helps and is on" in verdict(tuning)


SPEAKERS = 5


class Surface:
    """A bench whose error counts are a formula of the weights, shared out evenly among the speakers."""

    def __init__(self, formula):
        self.formula, self.asked = formula, []

    def measure(self, weights):
        self.asked.append(weights)
        total = round(self.formula(weights))
        return Trial(weights, np.array([total // SPEAKERS + (total % SPEAKERS > number) for number in range(SPEAKERS)]), 1000)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.0, Weights("beam", 16, 0.8, 1.0)), (19.5, Weights("beam", 16, 0.8, 1.0)), (40.0, Weights("beam", 16, 0.6, 1.5, 0.5))],
    ids=["the likeliest", "better for one speaker of five only", "of fewest expected errors"],
)
def test_what_is_taken_of_the_posterior_is_tuned_after_the_weights(gain, expected):
    def errors(weights):
        """Lowest at 0.8 and 1.0; for the hypothesis of fewest expected errors at 0.6 and 1.5, and by `gain` lower there."""
        weight, bonus, floor = (0.6, 1.5, 300 - gain) if weights.mbr else (0.8, 1.0, 300)
        away = abs(weights.mbr - 0.5) if weights.mbr else 0.0
        return floor + 400 * (weights.lm_weight - weight) ** 2 + 10 * (weights.insertion_bonus - bonus) ** 2 + 20 * away

    surface = Surface(errors)
    grid = [Weights("beam", 16, weight, bonus) for weight, bonus in itertools.product((0.4, 0.8, 1.1), (0.0, 1.0, 2.0))]
    assert best_trial(surface, grid, np.arange(SPEAKERS), lm=True).weights == expected
    assert {one.mbr for one in surface.asked} == {0.0, *MBR}


@pytest.mark.parametrize(("gain", "expected"), [(0.0, 0.0), (1.0, 0.0), (30.0, 1.5)], ids=["none", "one speaker", "all"])
def test_a_penalty_of_the_blank_is_taken_where_it_is_better_for_certain(gain, expected):
    """Lowest at 1.5, with another bonus there than without it."""

    def errors(weights):
        bonus = 1.0 - weights.blank_penalty
        return 300 - gain * (1 - abs(weights.blank_penalty - 1.5) / 1.5) + 10 * (weights.insertion_bonus - bonus) ** 2

    grid = [Weights("beam", 16, 0.8, bonus) for bonus in (0.0, 1.0, 2.0)]
    best = best_trial(Surface(errors), grid, np.arange(SPEAKERS), lm=True).weights
    assert best.blank_penalty == expected
    assert best.insertion_bonus == 1.0 - expected


def test_the_blank_is_less_likely_beside_all_others_and_rows_still_sum_to_one():
    log_probs = np.log(np.random.default_rng(3).dirichlet(np.ones(len(TOKENS)), 6)).astype(np.float32)
    shifted = with_blank_penalty(log_probs, 0.7)
    assert np.allclose(np.exp(shifted).sum(axis=1), 1.0, atol=1e-5)
    apart = (shifted - shifted[:, 1:2]) - (log_probs - log_probs[:, 1:2])
    assert np.allclose(apart[:, 0], -0.7, atol=1e-5)
    assert np.allclose(apart[:, 1:], 0.0, atol=1e-5)
    assert with_blank_penalty(log_probs, 0.0) is log_probs
    assert with_blank_penalty(log_probs[:0], 0.7).shape == (0, len(TOKENS))


def test_a_search_with_a_penalty_leaves_out_less():
    log_probs = np.full((5, len(TOKENS)), np.log(0.01), np.float32)
    log_probs[:, 0] = np.log(0.6)
    log_probs[2, 2] = np.log(0.3)
    found = [
        Search(TOKENS, DecodeOptions(decoder="beam", blank_penalty=penalty))(log_probs, frame_shift_s=1.0, first_frame_s=0.0)[0]
        for penalty in (0.0, 1.5)
    ]
    assert [one.tokens for one in found] == [(), (2,)]


def test_the_lowest_point_of_noisy_counts_is_that_of_the_surface_below_them():
    def true(weights):
        return 500 + 250 * (weights.lm_weight - 0.9) ** 2 + 6 * (weights.insertion_bonus - 1.0) ** 2

    grid = [Weights("beam", 16, round(0.1 * left, 1), 0.5 * up) for left, up in itertools.product(range(2, 19), range(-4, 9))]
    lost = {"surface": 0.0, "counts": 0.0}
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(0, 8, len(grid))
        trials = [Trial(point, np.array([round(true(point) + more)]), 1500) for point, more in zip(grid, noise)]
        lost["surface"] += true(lowest(trials).weights) - 500
        lost["counts"] += true(min(trials, key=lambda trial: trial.total).weights) - 500
    assert lost["surface"] < 0.25 * lost["counts"]


@pytest.mark.parametrize("points", [1, 2, 5])
def test_too_few_counts_for_a_surface_speak_for_themselves(points):
    trials = [Trial(Weights("beam", 16, 0.1 * number, 0.0), np.array([9 - number]), 100) for number in range(1, points + 1)]
    assert lowest(trials).weights.lm_weight == pytest.approx(0.1 * points)


def test_of_equal_counts_the_smallest_weights_are_taken():
    trials = [Trial(Weights("beam", 16, weight, bonus), np.array([0]), 100) for weight in (0.4, 0.2) for bonus in (1.0, -0.5)]
    assert (lowest(trials).weights.lm_weight, lowest(trials).weights.insertion_bonus) == (0.2, -0.5)


def test_the_beam_is_the_smallest_that_is_as_good(helped):
    tuning, bench, _ = helped
    fewest = min(one.total for one in tuning.beams)
    good = [one.weights.beam for one in tuning.beams if one.total <= fewest + 0.001 * bench.tokens]
    assert tuning.best.weights.beam == min(good)


def test_a_language_model_of_other_words_is_kept_off():
    backwards = [sentence[::-1] for sentence in sentences(60, 1)]
    wrong = train_ngram([[word[::-1] for word in sentence] for sentence in backwards], order=2)
    bench, utterances = make_bench(wrong, count=12)
    tuning = tune(bench, utterances, "beam", unit="word")
    assert not tuning.lm_helps
    assert tuning.best.weights.lm_weight == 0
    assert tuning.best.total <= min(tuning.without.total, tuning.greedy.total) + 0.001 * bench.tokens
    assert "kept off" in verdict(tuning)
    assert "paired bootstrap draws" in verdict(tuning)


def test_where_greedy_search_is_right_nothing_else_is_chosen():
    bench, utterances = make_bench(None, count=6, doubt=0.0)
    tuning = tune(bench, utterances, "beam", unit="word")
    assert (tuning.best.weights.decoder, tuning.best.total, tuning.with_lm) == ("greedy", 0, None)
    assert tuning.calibration.right.all()
    assert (tuning.calibration.slope, tuning.calibration.offset) == (1.0, 0.0), "nothing can be learnt from no mistake"
    assert draw_surface(tuning, title="t").startswith(b"\x89PNG")


def test_the_pictures_and_the_table_show_what_was_found(helped):
    tuning, _, _ = helped
    assert draw_surface(tuning, title="t").startswith(b"\x89PNG")
    assert draw_calibration(tuning.calibration, title="t").startswith(b"\x89PNG")
    rows = table(tuning).splitlines()
    assert [row.split("  ")[0] for row in rows] == [
        "setting",
        "greedy",
        "beam, no language model",
        "with the language model",
        "chosen",
    ]
    assert f"{tuning.best.total} of {tuning.best.tokens}" in rows[-1]


def test_the_share_of_wins_is_that_of_all_draws():
    ours, theirs = np.array([3, 0, 2, 1, 0]), np.array([2, 2, 2, 1, 1])
    groups = np.array([0, 1, 1, 2, 2])
    difference = np.bincount(groups, weights=ours - theirs)
    sums = [difference[list(draw)].sum() for draw in itertools.product(range(3), repeat=3)]
    exact = np.mean([1.0 if value < 0 else 0.5 if value == 0 else 0.0 for value in sums])
    assert share_of_wins(ours, theirs, groups) == pytest.approx(exact, abs=0.04)
    assert share_of_wins(ours, ours, groups) == 0.5
    assert share_of_wins(ours - 1, ours, groups) == 1.0
    assert share_of_wins(ours - 1, ours, np.zeros(5, dtype=int)) == 0.5, "one speaker says nothing about others"


def test_speakers_are_the_groups_where_all_are_known():
    named = [Utterance(str(i), "x", 1.0, speaker=name) for i, name in enumerate(["b", "a", "b"])]
    assert group_by_speaker(named).tolist() == [0, 1, 0]
    assert group_by_speaker([*named, Utterance("n", "x", 1.0)]).tolist() == [0, 1, 2, 3]


# --- confidences


def sampled(slope, offset, count=4000, seed=1):
    draw = np.random.default_rng(seed)
    confidences = draw.beta(2, 1, count)
    return confidences, draw.random(count) < apply_map(confidences, slope, offset), draw.integers(0, 20, count)


@pytest.mark.parametrize(("slope", "offset"), [(0.4, -0.8), (1.0, 0.0), (2.0, 0.5)])
def test_a_map_is_found_again(slope, offset):
    confidences, right, groups = sampled(slope, offset)
    found = fit_calibration(confidences, right, groups)
    assert (found.slope, found.offset) == (pytest.approx(slope, abs=0.15), pytest.approx(offset, abs=0.15))
    assert found.error_after < 0.03
    assert found.error_before == pytest.approx(calibration_error(confidences, right))
    if slope != 1.0:
        assert found.error_before > 0.05


def test_the_fit_stands_where_the_likelihood_is_highest():
    confidences, right, groups = sampled(0.3, -1.0, count=300, seed=3)
    confidences[:30] = 1.0  # certain and often wrong: the case in which Newton's plain steps go astray
    found = fit_calibration(confidences, right, groups)

    def loss(slope, offset):
        chance = apply_map(confidences, slope, offset)
        return -np.log(np.where(right, chance, 1 - chance)).sum() + 0.5 * ((slope - 1) ** 2 + offset**2)

    best = loss(found.slope, found.offset)
    for slope, offset in itertools.product((-0.02, 0, 0.02), repeat=2):
        assert loss(found.slope + slope, found.offset + offset) >= best - 1e-9


def test_the_calibration_error_by_hand():
    confidences, right = np.array([0.05, 0.95, 0.91, 1.0]), np.array([False, True, False, True])
    assert [rows.tolist() for rows in bin_rows(confidences)] == [[0], [1, 2, 3]]
    assert calibration_error(confidences, right) == pytest.approx((0.05 + abs(2.86 - 2)) / 4)


def test_too_few_words_or_mistakes_change_nothing():
    found = fit_calibration([0.9] * 200, [True] * 198 + [False] * 2, [0] * 200)
    assert (found.slope, found.offset) == (1.0, 0.0)
    empty = fit_calibration([], [], [])
    assert (empty.slope, empty.error_before, empty.error_after) == (1.0, None, None)


# --- files


def test_emissions_are_kept_and_refused_when_anything_differs(tmp_path):
    emissions = {"ä": np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32), "b": np.zeros((0, 3), np.float32)}
    path = tmp_path / "new" / "e.npz"
    save_emissions(path, emissions, {"model": "x", "batch": 3.0})
    found = load_emissions(path, {"batch": 3.0, "model": "x"})
    assert list(found) == ["ä", "b"]
    for name, rows in emissions.items():
        np.testing.assert_array_equal(found[name], rows)
    assert load_emissions(path, {"model": "y", "batch": 3.0}) is None
    assert load_emissions(tmp_path / "none.npz", {}) is None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert load_emissions(path, {"model": "x", "batch": 3.0}) is None, "a changed byte is noticed"
    path.write_bytes(content[:100])
    assert load_emissions(path, {"model": "x", "batch": 3.0}) is None
    np.savez(path, head=np.array([{"made_from": {}}], dtype=object), lengths=np.zeros(1), log_probs=np.zeros(1))
    assert load_emissions(path, {}) is None, "nothing is unpickled"


ENTRY = Tuned(
    model="m",
    lm="l",
    lexicon=None,
    asked="beam",
    decoder="beam",
    lm_weight=0.7,
    insertion_bonus=1.5,
    beam=8,
    unit="word",
    error_rate=0.2,
    error_rate_with_lm=0.2,
    error_rate_without_lm=0.3,
    error_rate_greedy=0.31,
    lm_better=1.0,
    confidence_scale=1.0,
    slope=0.5,
    offset=-0.1,
    calibration_error_before=0.3,
    calibration_error_after=0.02,
    utterances=10,
    mbr=0.5,
    blank_penalty=1.0,
)


def test_choices_are_kept_one_for_each_key(tmp_path):
    path = tmp_path / "decode.json"
    assert read_tuned(path) == []
    other = replace(ENTRY, lm=None, error_rate_with_lm=None, lm_better=None)
    for entry in (replace(ENTRY, lm_weight=9.0), other, ENTRY):
        write_tuned(path, entry)
    assert read_tuned(path) == [other, ENTRY]
    assert find_tuned(read_tuned(path), model="m", lm="l", lexicon=None, asked="beam") == ENTRY
    assert find_tuned(read_tuned(path), model="m", lm="l", lexicon="x", asked="beam") is None
    write_tuned(path, replace(ENTRY, model="trained on"))
    assert [one.model for one in read_tuned(path)] == ["trained on"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:50],
        lambda text: text.replace("0.7", "NaN"),
        lambda text: text.replace('"slope"', '"slopes"'),
        lambda text: text.replace('"beam": 8', '"beam": "8"'),
        lambda text: text.replace('"lm_weight": 0.7', '"lm_weight": -1'),
        lambda text: text.replace('"mbr": 0.5', '"mbr": -1'),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: "[]",
    ],
)
def test_a_damaged_choice_is_refused_and_tuning_replaces_it(tmp_path, damage):
    path = tmp_path / "decode.json"
    write_tuned(path, ENTRY)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(ModelError, match=r"decode\.json: is not what asr-decode tune=true"):
        read_tuned(path)
    write_tuned(path, ENTRY)
    assert read_tuned(path) == [ENTRY]


def test_a_choice_from_before_there_was_another_hypothesis_takes_the_likeliest(tmp_path):
    path = tmp_path / "decode.json"
    write_tuned(path, ENTRY)
    content = json.loads(path.read_text())
    del content["tuned"][0]["mbr"]
    path.write_text(json.dumps(content))
    assert read_tuned(path) == [replace(ENTRY, mbr=0.0)]


def test_the_choice_stands_beside_the_model(tmp_path):
    assert tuned_path(tmp_path / "run" / "model") == tmp_path / "run" / "decode.json"
    assert tuned_path(tmp_path / "best") == tmp_path / "best.decode.json"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({}, Weights("beam", 8, 0.7, 1.5, 0.5, 1.0)),
        ({"lm_weight": 0.0}, Weights("beam", 8, 0.0, 1.5, 0.5, 1.0)),
        ({"beam": 3, "insertion_bonus": 0.0}, Weights("beam", 3, 0.7, 0.0, 0.5, 1.0)),
        ({"mbr": 0.0}, Weights("beam", 8, 0.7, 1.5, 0.0, 1.0)),
        ({"blank_penalty": 0.5}, Weights("beam", 8, 0.7, 1.5, 0.5, 0.5)),
    ],
)
def test_what_is_typed_wins_over_what_was_tuned(typed, expected):
    assert choose_weights(DecodeOptions(lm="x", **typed), ENTRY) == expected


def test_stretches_of_least_risk_are_joined_in_that_order():
    def one(text, score, risk):
        return Hypothesis(text, (), score, (), risk=risk)

    search = Search(TOKENS, DecodeOptions(decoder="beam", beam=4, nbest=3, mbr=1.0))
    first, second = [one("ab", -5.0, 0.5), one("cab", -4.0, 0.75)], [one("bed", -3.0, 0.25), one("dab", -1.0, 0.5)]
    found = search.join([first, second])
    assert [hypothesis.text for hypothesis in found] == ["ab bed", "ab dab", "cab bed"], "of equal risk the likelier first"
    assert [(hypothesis.risk, hypothesis.score) for hypothesis in found] == [(0.75, -8.0), (1.0, -6.0), (1.0, -7.0)]


def test_where_greedy_was_as_good_it_is_used_unless_the_search_is_named():
    as_greedy = replace(ENTRY, decoder="greedy", lm_weight=0.0)
    assert choose_weights(DecodeOptions(lm="x"), as_greedy).decoder == "greedy"
    for named in ({"decoder": "beam"}, {"nbest": 2}, {"lm_weight": 0.5}):
        assert choose_weights(DecodeOptions(lm="x", **named), as_greedy).decoder == "beam"


# --- with a model


def test_a_manifest_is_heard_once_and_the_choice_is_picked_up(loaded, speech, tmp_path, monkeypatch):
    model_folder = tmp_path / "run" / "model"
    model_folder.mkdir(parents=True)
    for file in loaded.folder.iterdir():
        (model_folder / file.name).write_bytes(file.read_bytes())
    here = replace(loaded, folder=model_folder)
    write_arpa(train_ngram([["ab", "c"], ["de", "ab"]], order=2), tmp_path / "words.arpa")
    monkeypatch.setattr("asr.decoding.tune.LM_WEIGHTS", (0.5,))
    monkeypatch.setattr("asr.decoding.tune.BONUSES", (0.0,))
    monkeypatch.setattr("asr.decoding.tune.BEAMS", (4,))
    options = DecodeOptions(tune=True, lm=str(tmp_path / "words.arpa"))
    utterances = read_manifest(speech / "manifest.jsonl")
    said = []
    done = tune_manifest(here, utterances, options, say=said.append)
    assert done.kept == tmp_path / "run" / "decode.json"
    assert all(path.is_file() for path in done.files)
    assert {path.name for path in done.files} >= {"beam-words.surface.png", "beam-words.trials.json"}
    (entry,) = read_tuned(done.kept)
    assert (entry.lm_weight, entry.beam) == (done.tuning.best.weights.lm_weight, done.tuning.best.weights.beam)

    monkeypatch.setattr(tune_manifest_module, "hear_manifest", lambda *words, **named: 1 / 0)
    again = tune_manifest(here, utterances, options, say=said.append)
    assert again.tuning.best.weights == done.tuning.best.weights
    assert any("using the emissions in" in one for one in said)

    said.clear()
    search = open_search(here.tokenizer, model_folder, DecodeOptions(lm=options.lm), say=said.append)
    assert search.weights.lm_weight == entry.lm_weight
    assert len(said) == 1
    assert ("kept" if entry.lm_is_off else "as tuned in") in said[0] or "it is off; lm_weight=VALUE turns it on" in said[0]
    typed = open_search(here.tokenizer, model_folder, DecodeOptions(lm=options.lm, lm_weight=0.3, decoder="beam"))
    assert typed.weights.lm_weight == 0.3


def test_a_manifest_without_transcripts_cannot_tune():
    with pytest.raises(DataError, match='compares with "text", which "u1" of the manifest has not'):
        reference_tokens([Utterance("u0", "x", 1.0, text="a"), Utterance("u1", "x", 1.0)], TOKENS, "beam")
    with pytest.raises(UsageError, match="are empty"):
        reference_tokens([Utterance("u0", "x", 1.0, text=" ")], TOKENS, "beam")
    assert reference_tokens([Utterance("u0", "x", 1.0, text="a  b")], TOKENS, "beam") == ([["a", "b"]], "word")


def test_a_recording_that_cannot_be_heard_stops_the_tuning(loaded, speech, tmp_path):
    utterances = [replace(read_manifest(speech / "manifest.jsonl")[0], audio_filepath=str(tmp_path / "gone.wav"))]
    with pytest.raises(DataError, match=r"gone\.wav.*every recording of this manifest is needed"):
        tune_manifest(loaded, utterances, DecodeOptions(tune=True, out=str(tmp_path / "out")))


def test_confidences_are_mapped_as_tuned(good_model):
    log_probs = spoken(["ab", "cab"], 1, 0.3)
    same = replace(ENTRY, slope=1.0, offset=0.0)
    plain = Search(TOKENS, DecodeOptions(decoder="beam"), sources=Sources(), tuned=same)
    mapped = Search(TOKENS, DecodeOptions(decoder="beam"), sources=Sources(), tuned=replace(ENTRY, slope=0.2, offset=-2.0))
    (before,), (after,) = (one(log_probs, frame_shift_s=0.02, first_frame_s=0.0) for one in (plain, mapped))
    assert [word.text for word in before.words] == [word.text for word in after.words]
    expected = apply_map(np.array([word.confidence for word in before.words]), 0.2, -2.0)
    np.testing.assert_allclose([word.confidence for word in after.words], expected)
    assert plain.made_from != mapped.made_from


def test_the_fingerprint_names_all_that_decides_emissions(loaded, speech):
    utterances = read_manifest(speech / "manifest.jsonl")
    base = fingerprint(loaded, utterances, DecodeOptions())
    assert fingerprint(loaded, utterances, DecodeOptions(max_seconds=60.0)) != base
    assert fingerprint(loaded, utterances[1:], DecodeOptions()) != base
    assert fingerprint(loaded, [replace(one, text="other") for one in utterances], DecodeOptions()) == base
    assert json.dumps(base)
