"""All options of a training in one tree; `asr-train KEY=VALUE` sets any of them."""

import math
from dataclasses import dataclass, field

from asr.batches.order import BatchOptions
from asr.data.check import CheckOptions
from asr.errors import UsageError
from asr.features.augment import AugmentOptions
from asr.features.filterbank import FeatureOptions
from asr.features.normalize import NormalizeOptions
from asr.models.encoder import EncoderOptions
from asr.text.tokenizer import TokenOptions
from asr.training.objective import ObjectiveOptions
from asr.training.optim import OptimOptions

PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
AVERAGES = ("running", "last", "none")
BEST_BY = ("error", "loss")
SPLITS = ("auto", "speaker", "utterance")


@dataclass
class DataOptions(CheckOptions):
    #: folder that holds the manifests, as `asr-data prepare` writes it
    dir: str = field(default="", metadata={"path": True})
    #: in place of data.dir: folder of recordings with their texts (a.wav, a.txt); what suits them is chosen where no key is typed
    folder: str = field(default="", metadata={"path": True})
    #: data.folder only: how it is shared out, auto (by speaker, which is a sub-folder, where there are several) | speaker |
    #: utterance
    split_by: str = "auto"
    #: data.folder only: share that chooses the best epoch, above 0
    valid_fraction: float = 0.1
    #: data.folder only: share that is set aside to be recognised at the end, 0 or more
    test_fraction: float = 0.1
    #: training manifest, inside `data.dir` unless absolute
    train: str = field(default="train.jsonl", metadata={"path": True})
    #: validation manifest, inside `data.dir` unless absolute
    valid: str = field(default="valid.jsonl", metadata={"path": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_by not in SPLITS:
            raise UsageError(f"data.split_by must be one of {', '.join(SPLITS)}, got '{self.split_by}'")
        if not 0 < self.valid_fraction < 1 or not 0 <= self.test_fraction < 1 - self.valid_fraction:
            raise UsageError(
                f"data.valid_fraction={self.valid_fraction:g} and data.test_fraction={self.test_fraction:g} must be shares, the "
                "first above 0, that leave something to train"
            )
        if not self.folder and (self.split_by, self.valid_fraction, self.test_fraction) != ("auto", 0.1, 0.1):
            raise UsageError("data.split_by, data.valid_fraction and data.test_fraction share out data.folder, which is not set")


@dataclass
class TrainingOptions:
    #: passes over the training data; the learning-rate schedule ends with the last one
    epochs: int = 30
    #: stop after this many epochs without a better validation, by best_by (0 = never)
    patience: int = 0
    #: weights that are validated and kept: running (exponential average) | last (mean of the last epochs') | none
    average: str = "running"
    #: decay of the running average per step
    average_decay: float = 0.999
    #: epochs in the mean with average=last
    average_last: int = 5
    #: what the kept weights, and with patience the end, are chosen by on the validation data: error (rate) | loss
    best_by: str = "error"
    #: sigma of Gaussian noise added to every trained weight while the gradient of a batch is taken (0 = none)
    weight_noise: float = 0.0
    #: auto | float32 | bfloat16 (autocast of the encoder; auto takes bfloat16 where the device has it)
    precision: str = "auto"
    #: CPU threads (0 = all)
    threads: int = 0
    #: minutes between checkpoints inside an epoch; one is written after every epoch in any case
    checkpoint_minutes: float = 10.0
    #: checkpoints kept
    keep: int = 2
    #: with torchrun: minutes after which a process that is not heard of counts as lost (one validates, the others wait for it)
    timeout_minutes: float = 60.0
    #: stop after this many steps in a row whose gradient was not finite
    max_bad_steps: int = 10
    #: validate after every this many epochs
    validate_every: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "average_last", "keep", "max_bad_steps", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("patience", "threads"):
            if getattr(self, name) < 0:
                raise UsageError(f"training.{name} must not be negative, got {getattr(self, name)}")
        if self.average not in AVERAGES:
            raise UsageError(f"training.average must be one of {', '.join(AVERAGES)}, got '{self.average}'")
        if not 0 <= self.average_decay < 1:
            raise UsageError(f"training.average_decay must lie in [0, 1), got {self.average_decay}")
        if self.best_by not in BEST_BY:
            raise UsageError(f"training.best_by must be one of {', '.join(BEST_BY)}, got '{self.best_by}'")
        if not 0 <= self.weight_noise < math.inf:
            raise UsageError(f"training.weight_noise must not be negative, got {self.weight_noise}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"training.precision must be one of {', '.join(PRECISIONS)}, got '{self.precision}'")
        for name in ("checkpoint_minutes", "timeout_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"training.{name} must be above 0, got {getattr(self, name)}")


@dataclass
class TrainConfig:
    #: folder for the model, checkpoints, metrics and pictures; an interrupted run in it is resumed
    run_dir: str = field(default="", metadata={"path": True})
    #: model folder or run directory to start from: tensors that fit are copied, the others are listed
    init: str = field(default="", metadata={"path": True})
    #: auto | cpu | cuda
    device: str = "auto"
    #: seed of everything that is drawn
    seed: int = 1
    data: DataOptions = field(default_factory=DataOptions)
    tokens: TokenOptions = field(default_factory=TokenOptions)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    normalize: NormalizeOptions = field(default_factory=NormalizeOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    batches: BatchOptions = field(default_factory=BatchOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"device must be one of {', '.join(DEVICES)}, got '{self.device}'")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed must lie in 0 .. {2**31 - 1}, got {self.seed}")
        self.objective.layer(self.encoder)
        if self.augment.frequency_warp and self.features.kind != "fbank":
            raise UsageError(
                f"augment.frequency_warp={self.augment.frequency_warp} does not go with features.kind={self.features.kind}: "
                "those features lie at no frequency; use features.kind=fbank, or augment.frequency_warp=0"
            )


#: Keys that may differ when a run is resumed: they change where or how fast it runs, not what it computes. The data are told by
#: the sums of their manifests; another device computes the same up to the last digits, which is said.
FREE_ON_RESUME = frozenset(
    {
        "run_dir",
        "device",
        "data.dir",
        "data.train",
        "data.valid",
        "training.threads",
        "training.checkpoint_minutes",
        "training.timeout_minutes",
        "training.keep",
        "batches.workers",
        "batches.cache_mb",
    }
)
