"""Our beam searches against pyctcdecode and flashlight-text: the same emissions, the same 3-gram of words, one core, one process.

Two kinds of search are compared, each with the peer that does the same:

    free      any sequence of characters; words that the language model does not know are judged as <unk>
              ours (decoder=beam) and pyctcdecode
    lexicon   the words of the language model and nothing else
              ours (decoder=lexicon) and flashlight-text's LexiconDecoder; its lexicon-free decoder takes language models of
              tokens only and cannot use this one

The language model is trained by this package on the training transcripts and read by all from one ARPA file. All weights are
natural: pyctcdecode turns KenLM's log10 into ln itself, flashlight-text does not, so its weight is multiplied by ln 10 here. The
blank is token 0 for all. pyctcdecode keeps its own pruning (tokens below e^-5, prefixes e^-10 below the best), its penalty for
unknown words and its set of known words out of the ARPA file. flashlight-text has no defaults of its own: it gets our gap
between prefixes (18), as many tokens per frame as lose nothing on `valid` against all of them, the lexicon with the space at
each word's end and its look-ahead, as its users build it, and one more frame of certain space at the end of each recording,
without which it cannot end the last word. It adds up paths (log_add) or takes the best one, whichever makes fewer errors on
`valid`. Ours runs as asr-decode runs it; it also gives times and confidences of words, which the peers are not asked for.

Each system is tuned on the validation manifest by the procedure of `asr-decode tune=true`: a grid of language-model weights and
word bonuses with the first beam, then, for each beam, a finer grid around the best point as long as that moves. Ours also
tries, as it does there, a penalty of the blank and the hypothesis of fewest expected errors, which the peers do not have; not
with --plain. Then all decode the `dev` manifest in turns, round by round; a system's time is that of its shortest round:
processor time of the process, which other work on the machine moves less than wall time does. Emissions, language model and
weights are kept in --folder and used again.

    pip install --no-deps pyctcdecode==0.5.0 pygtrie flashlight-text==0.0.7 ufal-kenlm      (Python up to 3.12)
    python benchmarks/decoding.py --model runs/so762/characters --data data/speechocean762 --folder /tmp/decoding

prints tables and, last, one JSON object. Intervals are 95 % bootstrap intervals over speakers, of differences the paired ones.
`speed_vs_pyctcdecode` and `speed_vs_flashlight` are the peer's time over ours, the smaller of the two beams.
"""

import argparse
import itertools
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.data.manifest import read_manifest
from asr.decoding.beam import BeamDecoder, BeamOptions
from asr.decoding.emissions import fingerprint, hear_manifest, load_emissions, save_emissions
from asr.decoding.recognizer import DecodeOptions, Recognizer
from asr.decoding.search import Weights, with_blank_penalty
from asr.decoding.tune import BONUSES, LM_WEIGHTS, Trial, best_trial
from asr.models.package import load_model
from asr.scoring.edits import align, count, split_tokens
from asr.scoring.significance import bootstrap_interval
from asr.text.arpa import read_arpa, write_arpa
from asr.text.lexicon import Lexicon
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer

ORDER = 3
#: tokens per frame that flashlight-text may try; None: all
TOKENS_TRIED = (5, 10, 15, 20, None)
RIVALS = {"ours, free": "pyctcdecode", "ours, lexicon": "flashlight"}
LN10 = math.log(10.0)
INSTALL = (
    "benchmarks/decoding.py compares with packages that are not installed: pip install --no-deps pyctcdecode==0.5.0 pygtrie"
    " flashlight-text==0.0.7 ufal-kenlm (Python up to 3.12, best in an environment of its own)"
)

Decode = Callable[[np.ndarray], str]


@dataclass(frozen=True)
class Part:
    """A manifest as the searches meet it: one entry per utterance, log-probabilities (T', V)."""

    emissions: list[np.ndarray]
    references: list[list[str]]
    speakers: list[str]

    def errors(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) word errors of each utterance."""
        return np.array([count(one).errors for one in align(self.references, [text.split() for text in texts])])


#: what each system is tuned to at each beam
Points = dict[str, dict[int, Weights]]


class Ours:
    def __init__(self, tokenizer: Tokenizer, arpa: Path, *, lexicon: bool):
        self.tokenizer, self.model = tokenizer, read_arpa(arpa)
        known = (word for word in self.model.words if self.model.knows(word))
        self.lexicon = Lexicon.of_words(known) if lexicon else None

    def ready(self, point: Weights) -> Decode:
        weights = {"lm_weight": point.lm_weight, "insertion_bonus": point.insertion_bonus, "mbr": point.mbr}
        options = BeamOptions(beam=point.beam, **weights)
        decoder = BeamDecoder(self.tokenizer, options, language_model=self.model, lexicon=self.lexicon)
        return lambda log_probs: decoder.decode(with_blank_penalty(log_probs, point.blank_penalty))[0].text


class Pyctcdecode:
    def __init__(self, tokenizer: Tokenizer, arpa: Path):
        from pyctcdecode import build_ctcdecoder

        logging.disable(logging.WARNING)
        self.decoder = build_ctcdecoder(["", *tokenizer.symbols[1:]], str(arpa))

    def ready(self, point: Weights) -> Decode:
        self.decoder.reset_params(alpha=point.lm_weight, beta=point.insertion_bonus)
        return lambda log_probs: self.decoder.decode(log_probs, beam_width=point.beam)


class Flashlight:
    def __init__(self, tokenizer: Tokenizer, arpa: Path):
        from flashlight.lib.text.decoder import SmearingMode, Trie
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import create_word_dict

        self.symbols, self.space = len(tokenizer), tokenizer.symbols.index(" ", 1)
        self.tokens: int | None = None
        self.log_add = True
        model = read_arpa(arpa)
        known = [word for word in model.words if model.knows(word) and not tokenizer.unknown_symbols(word)]
        self.words = create_word_dict({word: [[word]] for word in [*known, "<unk>"]})
        self.lm = KenLM(str(arpa), self.words)
        self.trie = Trie(self.symbols, self.space)
        start = self.lm.start(False)
        for word in known:
            index = self.words.get_index(word)
            self.trie.insert([*tokenizer.encode(word), self.space], index, self.lm.score(start, index)[1])
        self.trie.smear(SmearingMode.MAX)

    def ready(self, point: Weights) -> Decode:
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions

        options = LexiconDecoderOptions(
            beam_size=point.beam,
            beam_size_token=self.tokens or self.symbols,
            beam_threshold=BeamOptions().score_gap,
            lm_weight=point.lm_weight * LN10,
            word_score=point.insertion_bonus,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=self.log_add,
            criterion_type=CriterionType.CTC,
        )
        unknown = self.words.get_index("<unk>")
        decoder = LexiconDecoder(options, self.trie, self.lm, self.space, 0, unknown, [], False)
        ending = np.full((1, self.symbols), -100.0, np.float32)
        ending[0, self.space] = 0.0

        def decode(log_probs: np.ndarray) -> str:
            rows = np.concatenate([log_probs, ending])
            decoder.decode_begin()
            decoder.decode_step(rows.ctypes.data, *rows.shape)
            decoder.decode_end()
            best = decoder.get_best_hypothesis(0)
            return " ".join(self.words.get_entry(word) for word in best.words if word >= 0)

        return decode


def hear(asked: argparse.Namespace, name: str, loaded: Any) -> Part:
    """The emissions of a manifest, from the folder where they were kept."""
    utterances = read_manifest(asked.data / f"{name}.jsonl")
    options = DecodeOptions(model=str(asked.model), device="cpu", threads=1)
    made_from, path = fingerprint(loaded, utterances, options), asked.folder / f"{name}.npz"
    heard = load_emissions(path, made_from)
    if heard is None:
        heard = hear_manifest(Recognizer(loaded, options), utterances, say=print)
        save_emissions(path, heard, made_from)
    references = [split_tokens(loaded.tokenizer.normalize(one.text or ""), "word") for one in utterances]
    emissions = [np.ascontiguousarray(heard[one.id], dtype=np.float32) for one in utterances]
    return Part(emissions, references, [one.speaker or one.id for one in utterances])


def train_model(asked: argparse.Namespace, tokenizer: Tokenizer) -> Path:
    path = asked.folder / "words.arpa"
    texts = [tokenizer.normalize(one.text or "") for one in read_manifest(asked.data / "train.jsonl")]
    write_arpa(train_ngram([text.split() for text in texts], order=ORDER), path)
    return path


def decode_all(decode: Decode, part: Part) -> list[str]:
    return [decode(rows) for rows in part.emissions]


class Surface:
    """Errors of a system on `valid` at any point, each counted once."""

    def __init__(self, system: Any, valid: Part, *, plain: bool):
        self.system, self.valid = system, valid
        self.plain = plain or not isinstance(system, Ours)
        self.tokens = sum(map(len, valid.references))
        self.known: dict[Weights, Trial] = {}

    def measure(self, point: Weights) -> Trial:
        asked = replace(point, mbr=0.0, blank_penalty=0.0) if self.plain else point
        if asked not in self.known:
            texts = decode_all(self.system.ready(asked), self.valid)
            self.known[asked] = Trial(asked, self.valid.errors(texts), self.tokens)
        return self.known[asked]


def settle_flashlight(surface: Surface, point: Weights) -> None:
    """Whether it adds up paths, and with how few tokens per frame it makes no more errors than with all."""
    system: Flashlight = surface.system

    def errors(log_add: bool, tokens: int | None) -> int:
        system.log_add, system.tokens = log_add, tokens
        return int(surface.valid.errors(decode_all(system.ready(point), surface.valid)).sum())

    adds = errors(True, None) <= errors(False, None)
    least = errors(adds, None)
    tokens = next(tokens for tokens in TOKENS_TRIED if tokens is None or errors(adds, tokens) <= least)
    system.log_add, system.tokens = adds, tokens
    surface.known.clear()


def tune_all(asked: argparse.Namespace, systems: dict[str, Any], valid: Part, state: dict[str, Any]) -> Points:
    """The point of each system at each beam; what was found before for the same emissions is read again."""
    path = asked.folder / "weights.json"
    saved = json.loads(path.read_text()) if path.is_file() else {}
    if saved.get("state") != state:
        saved = {"state": state, "systems": {}}
    for name, system in systems.items():
        if name not in saved["systems"]:
            surface = Surface(system, valid, plain=asked.plain)
            grid = [Weights("beam", asked.beams[0], *pair) for pair in itertools.product(LM_WEIGHTS, BONUSES)]
            start = min((surface.measure(point) for point in grid), key=lambda trial: trial.total).weights
            if isinstance(system, Flashlight):
                settle_flashlight(surface, start)
            groups = np.unique(valid.speakers, return_inverse=True)[1]
            found = [best_trial(surface, [replace(start, beam=beam)], groups, lm=True) for beam in asked.beams]
            own = {"log_add": system.log_add, "tokens": system.tokens} if isinstance(system, Flashlight) else {}
            saved["systems"][name] = {
                "points": [asdict(one.weights) for one in found],
                "errors": [one.total for one in found],
                **own,
            }
            path.write_text(json.dumps(saved, indent=1))
            print(f"tuned {name}: {saved['systems'][name]}", flush=True)
        if isinstance(system, Flashlight):
            system.log_add, system.tokens = (saved["systems"][name][key] for key in ("log_add", "tokens"))
    return {name: {one["beam"]: Weights(**one) for one in saved["systems"][name]["points"]} for name in systems}


def race(systems: dict[str, Any], points: Points, dev: Part, beams: Sequence[int], rounds: int):
    """(texts, shortest processor seconds, shortest wall seconds) of each (system, beam); the systems take turns."""
    texts: dict[tuple[str, int], list[str]] = {}
    cpu: dict[tuple[str, int], float] = {}
    wall: dict[tuple[str, int], float] = {}
    for round_ in range(rounds):
        for beam, name in itertools.product(beams, systems):
            decode = systems[name].ready(points[name][beam])
            decode(dev.emissions[0])  # compiles what is compiled, and warms up
            began, used = time.perf_counter(), time.process_time()
            found = decode_all(decode, dev)
            took = time.process_time() - used, time.perf_counter() - began
            key = (name, beam)
            if round_ and texts[key] != found:
                raise SystemExit(f"{name} gives other texts in another round")
            texts[key] = found
            cpu[key], wall[key] = min(cpu.get(key, math.inf), took[0]), min(wall.get(key, math.inf), took[1])
    return texts, cpu, wall


def by_speaker(values: np.ndarray, speakers: Sequence[str]) -> list[int]:
    sums: dict[str, int] = {}
    for speaker, value in zip(speakers, values.tolist()):
        sums[speaker] = sums.get(speaker, 0) + value
    return list(sums.values())


def rate(errors: np.ndarray, part: Part) -> tuple[float, float, float]:
    """Errors per reference word and their interval, in %; of a difference of errors, too."""
    tokens = np.array([len(words) for words in part.references])
    found = bootstrap_interval(by_speaker(errors, part.speakers), by_speaker(tokens, part.speakers), resamples=10_000)
    low, high = found if found is not None else (math.nan, math.nan)
    return round(100 * float(errors.sum() / tokens.sum()), 2), round(100 * low, 2), round(100 * high, 2)


def report(texts, cpu, wall, points: Points, dev: Part, seconds: float) -> dict[str, Any]:
    """Print the tables; what goes into the JSON object."""
    result: dict[str, Any] = {}
    errors = {key: dev.errors(found) for key, found in texts.items()}
    head = f"\n{'':24}{'beam':>5}  {'weight':>6} {'bonus':>6} {'blank':>5} {'mbr':>5}  {'WER % (interval)':26}"
    print(f"{head}{'CPU s':>8}{'wall s':>8}{'x real time':>12}")
    for (name, beam), wrong in errors.items():
        value, low, high = rate(wrong, dev)
        point, key = points[name][beam], (name, beam)
        shown = f"{value:.2f} ({low:.2f} .. {high:.2f})"
        times = f"{cpu[key]:8.2f}{wall[key]:8.2f}{seconds / cpu[key]:12.0f}"
        tuned = f"{point.lm_weight:6.2f} {point.insertion_bonus:6.2f} {point.blank_penalty:5.2f} {point.mbr:5.2f}"
        print(f"{name:24}{beam:5}  {tuned}  {shown:26}{times}")
        label = f"{name.replace(', ', '_')}_{beam}"
        result |= {f"wer_{label}": value, f"wer_interval_{label}": [low, high], f"cpu_s_{label}": round(cpu[key], 3)}
    print("\nours minus theirs, WER in points (paired interval), and their time over ours")
    for (ours, beam), wrong in errors.items():
        for theirs in dict.fromkeys(RIVALS.values()) if ours in RIVALS else ():
            value, low, high = rate(wrong - errors[theirs, beam], dev)
            speed = round(cpu[theirs, beam] / cpu[ours, beam], 2)
            kind = "the same kind of search" if RIVALS[ours] == theirs else "another kind"
            print(f"{ours:24} - {theirs:12}{beam:5}  {value:+.2f} ({low:+.2f} .. {high:+.2f})  {speed:.2f} x  {kind}")
            label = f"{ours.replace(', ', '_')}_minus_{theirs}_{beam}"
            result |= {f"difference_{label}": value, f"difference_interval_{label}": [low, high]}
            if RIVALS[ours] == theirs:
                result.setdefault(f"speed_vs_{theirs}_{beam}", speed)  # of the first of ours
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="run of a characters model, or its model/ folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, valid.jsonl and dev.jsonl")
    parser.add_argument("--folder", type=Path, required=True, help="where emissions, language model and weights are kept")
    parser.add_argument("--beams", type=int, nargs="+", default=[16, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--plain", action="store_true", help="ours without what the peers do not have; needs a --folder of its own"
    )
    asked = parser.parse_args()
    try:
        import flashlight.lib.text.decoder.kenlm  # noqa: F401
        import kenlm  # noqa: F401
        import pyctcdecode  # noqa: F401
    except ImportError:
        sys.exit(INSTALL)
    asked.folder.mkdir(parents=True, exist_ok=True)
    loaded = load_model(asked.model, device="cpu")
    valid, dev = hear(asked, "valid", loaded), hear(asked, "dev", loaded)
    arpa = train_model(asked, loaded.tokenizer)
    systems = {
        "ours, free": Ours(loaded.tokenizer, arpa, lexicon=False),
        "pyctcdecode": Pyctcdecode(loaded.tokenizer, arpa),
        "ours, lexicon": Ours(loaded.tokenizer, arpa, lexicon=True),
        "flashlight": Flashlight(loaded.tokenizer, arpa),
    }
    state = {"emissions": [float(sum(rows.sum() for rows in part.emissions)) for part in (valid, dev)], "beams": asked.beams}
    state |= {"plain": True} if asked.plain else {}
    points = tune_all(asked, systems, valid, state)
    load = os.getloadavg()[0]
    texts, cpu, wall = race(systems, points, dev, asked.beams, asked.rounds)
    shift = loaded.model.features.frame_shift_s * loaded.model.encoder.subsampling
    seconds = shift * sum(map(len, dev.emissions))
    result = report(texts, cpu, wall, points, dev, seconds)
    for peer in set(RIVALS.values()):
        result[f"speed_vs_{peer}"] = min(result[f"speed_vs_{peer}_{beam}"] for beam in asked.beams)
    result |= {"audio_s": round(seconds, 1), "load": round(load, 1), "machine": platform.processor() or platform.machine()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
