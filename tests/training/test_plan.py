"""The plan for a folder of recordings: a table of the hours, room for the text in every recording, claims with a source."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from asr.batches.order import BatchOptions, cut_batches
from asr.cli.arguments import Arguments
from asr.config import compose_config, option_fields
from asr.models.encoder import EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.training.expectations import FSDD, MEASURED, SENTENCES, SOME_SENTENCES, YESNO, expectations
from asr.training.options import TrainConfig
from asr.training.plan import (
    EPOCHS,
    SIZES,
    STEPS_PER_TOKEN,
    Choice,
    Plan,
    Spoken,
    network_choice,
    rate_choice,
    schedule_choices,
    show_hours,
    size_for,
    steps_choice,
    text_choice,
)

MODELS = {
    steps: SpeechModel(
        ModelOptions(encoder=EncoderOptions(subsampling=steps, layers=1, width=4, conv_channels=1)), vocabulary=3, seed=1
    )
    for steps in (1, 2, 3, 4)
}
README = Path(__file__).resolve().parents[2] / "README.md"


def spoken(*rows: tuple[float, str]) -> list[Spoken]:
    return [Spoken(seconds, 16000, text) for seconds, text in rows]


def test_the_table_goes_from_less_to_more():
    assert all(smaller.below_hours < larger.below_hours for smaller, larger in pairwise(SIZES))
    for name in ("layers", "width", "channels", "blocks", "projection", "bins", "utterances", "seconds"):
        values = [getattr(size, name) for size in SIZES]
        assert values == sorted(values), name
    for optimizer in ("adamw", "muon"):
        steps = [size.steps for size in SIZES if size.optimizer == optimizer]
        assert len(steps) >= 2
        assert steps == sorted(steps)
    assert [size_for(hours).width for hours in (0.0, 0.1, 0.3, 0.5, 3, 30, 100, 5000)] == [64, 128, 128, 192, 256, 384, 512, 640]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.below_hours:g}h")
def test_every_row_is_a_training_that_can_begin(size):
    """All keys are known, and the values pass the checks of their classes."""
    durations = [4.0] * 50
    choices = [network_choice(size, 1.0), rate_choice(spoken((1.0, "a"))), text_choice(["A b."])]
    keys = Plan((*choices, *schedule_choices(size, durations))).keys
    assert keys.keys() <= option_fields(TrainConfig).keys()
    config = compose_config("train", Arguments(paths={"run_dir": "x"}), TrainConfig, base=keys)
    assert (config.encoder.layers, config.encoder.width) == (size.layers, size.width)
    assert config.features.num_bins == size.bins
    assert config.tokens.case == "lower"
    assert config.augment.start_epoch < config.training.epochs
    assert config.optim.warmup_steps < config.training.epochs * 25


@pytest.mark.parametrize(
    ("typed", "absent"),
    [
        ({"encoder.layers": 1}, ["encoder.self_conditioned", "objective.intermediate"]),
        ({"encoder.frontend": "stack"}, ["encoder.conv_blocks"]),
        ({"objective.intermediate": 0.0}, ["encoder.self_conditioned"]),
        ({"objective.intermediate": 0.2, "objective.intermediate_layer": 1}, ["encoder.self_conditioned"]),
        ({"encoder.self_conditioned": 0}, ["objective.intermediate"]),
        ({"optim.optimizer": "adamw"}, ["optim.learning_rate", "optim.momentum", "optim.weight_decay"]),
    ],
    ids=str,
)
def test_what_is_typed_goes_with_what_is_chosen(typed, absent):
    """With all that the plan adds, the configuration is one that can be built, and nothing of what does not go with it is set."""
    size = size_for(3.0)
    keys = Plan((network_choice(size, 3.0, typed), *schedule_choices(size, [4.0] * 50, fixed=typed))).keys
    free = Plan((network_choice(size, 3.0), *schedule_choices(size, [4.0] * 50))).keys
    assert set(absent) <= free.keys()
    assert free.keys() - keys.keys() - typed.keys() == set(absent) - typed.keys()
    config = compose_config("train", Arguments(paths={"run_dir": "x"}), TrainConfig, base={**keys, **typed})
    config.objective.layer(config.encoder)
    SpeechModel(ModelOptions(encoder=config.encoder), vocabulary=3, seed=1)


def test_adamw_gets_its_own_number_of_steps():
    """On a row of Muon it goes on for longer; on its own rows, and with epochs that are typed, nothing changes."""
    durations = [4.0] * 900
    for hours, factor in ((1.0, 2.5), (0.3, 1.0)):
        free, typed = (
            schedule_choices(size_for(hours), durations, fixed=fixed)[0].keys["training.epochs"]
            for fixed in ({}, {"optim.optimizer": "adamw"})
        )
        assert EPOCHS[0] <= free < typed < EPOCHS[1] if factor > 1 else free == typed
        assert typed == pytest.approx(factor * free, abs=factor)
    ours = schedule_choices(size_for(1.0), durations, fixed={"optim.optimizer": "adamw", "training.epochs": 9})[0].keys
    assert ours["training.epochs"] == 9


def test_muon_is_that_of_the_configurations():
    """What the plan sets beside the rate is what `optim=muon` sets."""
    keys = schedule_choices(size_for(3.0), [4.0] * 50)[0].keys
    config = compose_config("train", Arguments(["optim=muon"]), TrainConfig).optim
    chosen = {key: value for key, value in keys.items() if key.startswith("optim.") and key != "optim.warmup_steps"}
    names = ("optimizer", "momentum", "weight_decay", "learning_rate")
    assert chosen == {f"optim.{name}": getattr(config, name) for name in names}


def test_layers_that_are_typed_move_the_middle():
    chosen = [network_choice(size_for(3.0), 3.0, {"encoder.layers": layers}).keys for layers in (2, 3, 4, 8)]
    assert [keys["encoder.self_conditioned"] for keys in chosen] == [1, 2, 2, 4]


@pytest.mark.parametrize(
    ("count", "utterances", "epochs"),
    [(3, 2, 100), (24, 2, 83), (400, 8, 60), (2430, 8, 20), (90, 8, 100)],
)
def test_epochs_follow_from_the_steps(count, utterances, epochs):
    """A tiny folder gets small batches and many epochs, a large one the steps of its row."""
    size = size_for(0.05 if count == 24 else 0.3)
    durations = [1.0 + 0.01 * number for number in range(count)]
    keys = schedule_choices(size, durations)[0].keys
    assert (keys["batches.utterances"], keys["training.epochs"]) == (utterances, epochs)
    batches = cut_batches(range(count), durations, BatchOptions(utterances=utterances, seconds=size.seconds))
    assert EPOCHS[0] <= epochs <= EPOCHS[1]
    assert epochs in EPOCHS or abs(epochs * len(batches) - size.steps) < len(batches)
    typed = {"training.epochs": 7, "batches.utterances": 3, "batches.seconds": 500.0}
    ours, masks = schedule_choices(size, durations, fixed=typed)
    assert {key: ours.keys[key] for key in typed} == typed
    assert f"training: 7 times through {count} recordings in {-(-count // 3)} batches" in ours.reason
    assert masks.keys["augment.start_epoch"] == 1
    tuned = schedule_choices(size, durations, rate=0.3)[0].keys
    assert tuned["training.epochs"] <= epochs
    assert tuned["optim.learning_rate"] == pytest.approx(0.3 * size.rate)


@pytest.mark.parametrize("seed", range(8))
def test_every_recording_has_room_for_its_text(seed):
    """By the exact rule of the model that will be built; the next coarser one would leave too little."""
    draw = random.Random(seed)
    pace = draw.uniform(2, 30)
    rows = [
        (seconds, "".join(draw.choices("aab", k=max(1, int(seconds * pace)))))
        for seconds in [draw.uniform(0.3, 9) for _ in range(60)]
    ]
    encode = lambda text: [1 + "ab".index(letter) for letter in text]  # noqa: E731
    frames = lambda seconds: round(100 * seconds)  # noqa: E731
    chosen = steps_choice(spoken(*rows), encode, frames, 1.1).keys["encoder.subsampling"]

    def room(subsampling: int) -> list[float]:
        needed = [len(text) + sum(a == b for a, b in pairwise(text)) for _, text in rows]
        lengths = [MODELS[subsampling].emission_length(160 * frames(seconds / 1.1)) for seconds, _ in rows]
        return [length / need for length, need in zip(lengths, needed)]

    possible = [place for place, share in enumerate(room(1)) if share >= 1]
    assert all(room(chosen)[place] >= 1 for place in possible) or chosen == 1
    if chosen < 4:
        coarser = [room(chosen + 1)[place] for place in possible]
        assert min(coarser) < 1 or sum(share < STEPS_PER_TOKEN for share in coarser) > 0.1 * len(coarser)


@pytest.mark.parametrize(("pace", "subsampling"), [(5, 4), (13, 3), (20, 2), (45, 1)])
def test_denser_text_gets_more_steps(pace, subsampling):
    rows = spoken(*[(seconds / 2, "abc" * round(seconds * pace / 6)) for seconds in range(6, 20)])
    chosen = steps_choice(rows, lambda text: [ord(letter) - 96 for letter in text], lambda seconds: round(100 * seconds), 1.1)
    assert chosen.keys == {"encoder.subsampling": subsampling}


def test_steps_without_anything_that_fits():
    assert steps_choice(spoken((0.01, "abcdef")), lambda text: [1] * 6, lambda seconds: 1, 1.1).keys["encoder.subsampling"] == 4


@pytest.mark.parametrize(
    ("texts", "keys"),
    [
        (["one two"], {}),
        (["ONE TWO", "THREE"], {}),
        (["One two", "three"], {"tokens.case": "lower"}),
        (["ბატი.", "იხვი"], {"tokens.punctuation": "drop"}),
        (["it's", "well-known"], {}),
        (["„Ja!“", "nein"], {"tokens.case": "lower", "tokens.punctuation": "drop"}),
        (["room 4", "٤"], {}),
    ],
)
def test_text_rules(texts, keys):
    choice = text_choice(texts)
    assert choice.keys == {"tokens.unicode": "folded", **keys}
    assert ("punctuation" in choice.reason) == ("tokens.punctuation" in keys)
    assert choice.reason.endswith("digits as they are")


@pytest.mark.parametrize(
    ("rates", "rate"), [([8000, 8000, 16000], 8000), ([8000, 44100], 16000), ([16000], 16000), ([11025], 8000)]
)
def test_the_rate_is_that_of_most_recordings(rates, rate):
    assert rate_choice([Spoken(1.0, each, "a") for each in rates]).keys == {"features.sample_rate": rate}


def test_what_is_typed_is_not_told():
    plan = Plan((Choice({"a.x": 1, "a.y": [0.9, 1.0]}, "first"), Choice({"b.z": 2e-3, "b.t": True, "b.m": {"é": "e"}}, "second")))
    assert plan.keys == {"a.x": 1, "a.y": [0.9, 1.0], "b.z": 2e-3, "b.t": True, "b.m": {"é": "e"}}
    assert plan.lines() == ["first", "    a.x=1 a.y=[0.9,1]", "second", '    b.z=0.002 b.t=true b.m={"é": "e"}']
    assert plan.lines(frozenset({"a.x", "b.z", "b.t", "b.m"})) == ["first", "    a.y=[0.9,1]"]


def test_hours_are_told_as_people_say_them():
    assert [show_hours(hours) for hours in (0.05, 0.5, 2.37, 120)] == ["3.0 min", "30 min", "2.4 h", "120.0 h"]


def test_claims_are_those_of_the_readme():
    """Every rate and recipe that a user is told stands in the table of measured numbers."""
    table = re.search(r"^## What was measured$.*?^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert table
    for row in MEASURED:
        assert row.recipe in table[0]
        rates = re.findall(r"\d+\.\d+ %", row.result)
        assert rates
        for rate in rates:
            assert rate in table[0], f"{rate} of {row.recipe}"


@pytest.mark.parametrize(
    ("hours", "words", "new_voices", "row", "said", "unsaid"),
    [
        (0.05, 2, True, YESNO, "you have 3.0 min with 2 different words", "roughly"),
        (0.01, 2, True, YESNO, "you have 0.6 min with 2 different words", "less"),
        (0.3, 10, True, FSDD, "you have 18 min", "roughly"),
        (0.3, 900, True, SOME_SENTENCES, "18 min, less, so expect more errors", "set aside"),
        (1.0, 900, True, SOME_SENTENCES, "1.0 h, more, so expect fewer errors", "toolkit"),
        (1.5, 900, True, SENTENCES, "1.5 h, less, so expect more errors", "set aside"),
        (2.4, 900, True, SENTENCES, "2.4 h, about as much, so expect about as many errors, unless", "more errors"),
        (30, 9000, False, SENTENCES, "30.0 h, more than was ever measured with this toolkit", "expect more errors"),
    ],
)
def test_what_to_expect(hours, words, new_voices, row, said, unsaid):
    lines = expectations(hours=hours, different_words=words, new_voices=new_voices)
    assert row.result in lines[0]
    assert row.recipe in lines[0]
    assert said in lines[0]
    assert unsaid not in "\n".join(lines)
    assert any("set aside may hold voices of the training" in line for line in lines) != new_voices
    assert all("not measured" in line for line in lines if line.startswith("roughly"))
    assert any("not to recognise anything" in line for line in lines) == (hours < 0.02)
