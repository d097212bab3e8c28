"""What the user can set in decoding, and which settings go together."""

import math
from dataclasses import dataclass, field

from asr.errors import UsageError

SEARCHES = ("greedy", "beam", "lexicon")
DEVICES = ("auto", "cpu", "cuda")
CHANNELS = ("mix", "first", "error")
PAUSES = ("level", "neural")
#: forms of the output, each with whether one recording makes one file of its own
FORMATS = {"text": False, "json": False, "ctm": False, "srt": True, "vtt": True, "textgrid": True, "elan": True}
#: no search is better for more, and memory is taken for all of them at once
WIDEST_BEAM = 65536
#: s that `max_seconds` must be at least
LEAST_SECONDS = 30.0
DEFAULT_BEAM = 16
DEFAULT_LM_WEIGHT = 0.5
DEFAULT_INSERTION_BONUS = 0.0
DEFAULT_MBR = 0.0
DEFAULT_BLANK_PENALTY = 0.0
#: what tuning finds, and what is typed wins over
TUNED_KEYS = ("beam", "lm_weight", "insertion_bonus", "blank_penalty", "mbr")


@dataclass
class DecodeOptions:
    #: run directory or its model/ folder
    model: str = field(default="", metadata={"path": True})
    #: manifest to decode; without it, the other words of the command line are audio files
    manifest: str = field(default="", metadata={"path": True})
    #: file of hypotheses, one JSON line per utterance of the manifest, in its order; a folder for formats of one file each
    out: str = field(default="", metadata={"path": True})
    #: replace `out` where it exists
    overwrite: bool = False
    #: search: greedy (the best symbol of each frame) | beam (the best text) | lexicon (the best words of a dictionary) | auto
    #: (lexicon with lexicon=, beam with lm=, hotwords= or nbest=, else as tuned without them, else greedy)
    decoder: str = "auto"
    #: language model over words, characters or phones: an ARPA file (may be gzipped), or a KenLM binary with the extra lm
    lm: str = field(default="", metadata={"path": True})
    #: pronunciation dictionary, one `WORD SYMBOL SYMBOL ...` per line; stress is dropped where the model knows none
    lexicon: str = field(default="", metadata={"path": True})
    #: words and phrases to prefer, one per line
    hotwords: str = field(default="", metadata={"path": True})
    #: hypotheses kept at each frame; null: as tuned, else 16
    beam: int | None = None
    #: weight of the language model's logarithm; null: as tuned, else 0.5
    lm_weight: float | None = None
    #: added to the score for each word, natural logarithm; null: as tuned, else 0
    insertion_bonus: float | None = None
    #: taken from the logarithm of the blank in each frame, at least 0: for a network that leaves out too much; null: as tuned,
    #: else 0
    blank_penalty: float | None = None
    #: take the text of fewest expected errors (minimum Bayes risk) by the posterior to this power, 1 as it is, in place of the
    #: likeliest text; 0: the likeliest; null: as tuned, else 0
    mbr: float | None = None
    #: hypotheses written per utterance, the best first
    nbest: int = 1
    #: also write words and tokens with their starts and ends in seconds, and the confidence of each word
    words: bool = False
    #: let the level of the recording say where words begin and end; without, they end 40 ms beyond what the network marks
    levels: bool = True
    #: form of the output: json | text | ctm | srt | vtt | textgrid | elan | auto (json for a manifest, text for files)
    format: str = "auto"
    #: auto | cpu | cuda
    device: str = "auto"
    #: processor cores to use, 0: all
    threads: int = 0
    #: most audio seconds in one batch, padding counted
    batch_seconds: float = 120.0
    #: s that are heard as one, at least 30; longer recordings are cut at pauses, or heard in overlapping windows
    max_seconds: float = 600.0
    #: what finds the pauses to cut at: level (of the sound) | neural (a detector of voices, with the extra vad)
    pauses: str = "level"
    #: recordings with several channels: mix (their mean) | first | error
    channels: str = "mix"
    #: find beam, lm_weight, insertion_bonus, blank_penalty and mbr on a manifest with transcripts, and keep them beside the model
    tune: bool = False

    def __post_init__(self) -> None:
        choices = {"decoder": (*SEARCHES, "auto"), "format": (*FORMATS, "auto"), "device": DEVICES}
        for name, allowed in {**choices, "channels": CHANNELS, "pauses": PAUSES}.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got '{getattr(self, name)}'")
        if not self.batch_seconds > 0:
            raise UsageError(f"batch_seconds must be above 0, got {self.batch_seconds}")
        if not LEAST_SECONDS <= self.max_seconds < math.inf:
            raise UsageError(f"max_seconds must be at least {LEAST_SECONDS:g} and finite, got {self.max_seconds}")
        if self.threads < 0:
            raise UsageError(f"threads must not be negative (0 takes all cores), got {self.threads}")
        if self.beam is not None and not 1 <= self.beam <= WIDEST_BEAM:
            raise UsageError(f"beam must lie between 1 and {WIDEST_BEAM}, got {self.beam}")
        if not 1 <= self.nbest <= (self.beam or WIDEST_BEAM):
            limit = f"beam={self.beam}" if self.beam else WIDEST_BEAM
            raise UsageError(f"nbest must lie between 1 and {limit}, got {self.nbest}")
        for name in ("lm_weight", "insertion_bonus", "blank_penalty", "mbr"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{name} must be a finite number, got {value}")
            if name != "insertion_bonus" and value is not None and value < 0:
                raise UsageError(f"{name} must not be negative, got {value}")
        self._check_search()

    @property
    def search(self) -> str:
        """The decoder that `auto` stands for."""
        if self.decoder != "auto":
            return self.decoder
        if self.lexicon:
            return "lexicon"
        return "beam" if self.lm or self.tune or self.asks_for_beam else "greedy"

    @property
    def has_file_each(self) -> bool:
        """Whether the form of the output makes a file of each recording."""
        return FORMATS.get(self.format, False)

    @property
    def needs_words(self) -> bool:
        """Whether the output holds words with their times."""
        return self.words or self.format not in ("auto", "json", "text")

    @property
    def asks_for_beam(self) -> list[str]:
        """Keys that were given, beside `lm`, and that greedy search has no use for."""
        keys = ["hotwords"] if self.hotwords else []
        keys += [name for name in TUNED_KEYS if getattr(self, name) is not None]
        return [*keys, "nbest"] if self.nbest > 1 else keys

    def _check_search(self) -> None:
        idle = [*(name for name in ("lm", "lexicon") if getattr(self, name)), *self.asks_for_beam]
        if self.decoder == "greedy" and (idle or self.tune):
            raise UsageError(f"{idle[0] if idle else 'tune'}= needs decoder=beam or decoder=lexicon, got decoder=greedy")
        if self.search == "lexicon" and not self.lexicon:
            raise UsageError("decoder=lexicon needs lexicon=FILE, a pronunciation dictionary")
        if self.search == "beam" and self.lexicon:
            raise UsageError("lexicon= needs decoder=lexicon, got decoder=beam")
        if self.lm_weight is not None and not self.lm:
            raise UsageError("lm_weight= needs lm=FILE, a language model")
        if self.tune:
            typed = [name for name in TUNED_KEYS if getattr(self, name) is not None]
            typed += [name for name in ("words", "overwrite") if getattr(self, name)]
            typed += ["nbest"] if self.nbest > 1 else []
            typed += ["format"] if self.format != "auto" else []
            if typed:
                raise UsageError(f"{typed[0]}= has no use with tune=true; leave it away")
