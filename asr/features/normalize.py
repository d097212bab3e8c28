"""Normalisation of features to zero mean and unit variance: per utterance, per speaker or over a training set."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.errors import DataError, UsageError

SCOPES = ("none", "utterance", "speaker", "global")

#: Standard deviations below this count as zero: the dimension is constant, and dividing would only blow up rounding errors.
SMALLEST_STD = 1e-4


@dataclass
class NormalizeOptions:
    """Over what the mean and the variance of each feature are taken; stored with the model."""

    #: none, utterance, speaker (falls back to the utterance where the speaker is unknown) or global (the training set)
    mean: str = "utterance"
    #: none, utterance, speaker or global, as for the mean
    variance: str = "global"

    def __post_init__(self):
        for name in ("mean", "variance"):
            if getattr(self, name) not in SCOPES:
                raise UsageError(f"normalize.{name}={getattr(self, name)}: expected one of {', '.join(SCOPES)}")

    @property
    def needs_speakers(self) -> bool:
        """Whether statistics per speaker have to be handed over with each batch."""
        return "speaker" in (self.mean, self.variance)


class StatisticsAccumulator:
    """Counts, sums and sums of squares in float64, for any number of keys, such as speakers."""

    def __init__(self):
        self._sums: dict[Hashable, Tensor] = {}

    def add(self, features: Tensor, lengths: Tensor, keys: Iterable[Hashable] | None = None) -> None:
        """Adds the valid frames of features (B, T, D), lengths (B,), to the key of each utterance; without keys, to None."""
        keys = [None] * len(features) if keys is None else list(keys)
        assert len(keys) == len(features), f"{len(keys)} keys for {len(features)} utterances"
        count, mean, spread = _moments(features.detach().double(), lengths)
        for row, key in enumerate(keys):
            self._merge(key, torch.stack([count[row].expand_as(mean[row]), mean[row], spread[row]]).cpu())

    def _merge(self, key: Hashable, new: Tensor) -> None:
        # Chan, Golub and LeVeque 1983: means and sums of squared deviations of two sets combine without cancellation.
        old = self._sums.get(key)
        if old is None:
            self._sums[key] = new
            return
        count = old[0] + new[0]
        share = new[0] / count.clamp(min=1)
        step = new[1] - old[1]
        self._sums[key] = torch.stack([count, old[1] + share * step, old[2] + new[2] + share * old[0] * step.square()])

    def keys(self) -> list[Hashable]:
        """The keys seen so far, in the order of their first utterance."""
        return list(self._sums)

    def frames(self, key: Hashable = None) -> int:
        """Number of frames added to the key."""
        return int(self._sums[key][0, 0]) if key in self._sums else 0

    def statistics(self, key: Hashable = None) -> Tensor:
        """(2, D) float32: mean and population standard deviation of the key; NaN, which means unknown, if it has no frames."""
        count, mean, spread = self._sums[key]
        known = torch.stack([mean, (spread / count.clamp(min=1)).sqrt()]).float()
        return torch.where(count > 0, known, torch.nan)


class Normalizer(nn.Module):
    """Subtracts a mean from each feature and divides by a standard deviation, each over the scope the options name.

    A dimension that is constant over its scope is only shifted, never divided. Statistics of the training set are buffers,
    set by `fit_global` and saved with the model; until then they are 0 and 1.
    """

    def __init__(self, options: NormalizeOptions, size: int):
        super().__init__()
        self.options = options
        self.register_buffer("global_mean", torch.zeros(size))
        self.register_buffer("global_std", torch.ones(size))

    def forward(self, features: Tensor, lengths: Tensor, cmvn: Tensor | None = None) -> Tensor:
        """features (B, T, D), lengths (B,) frames -> (B, T, D) with padding frames zero.

        cmvn (B, 2, D) holds each speaker's mean and standard deviation; without it, and where a row holds NaN, scope
        "speaker" takes the utterance's own.
        """
        with torch.autocast(features.device.type, enabled=False):
            mean, std = self.statistics(features, lengths, cmvn)
            if mean is not None:
                features = features - mean
            if std is not None:
                features = features / std
            return features.masked_fill(~valid_frames(features, lengths), 0.0)

    def statistics(self, features: Tensor, lengths: Tensor, cmvn: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """What to subtract and what to divide by, broadcast to (B, 1, D); None for scope "none"."""
        mean_scope, std_scope = self.options.mean, self.options.variance
        means = {"global": self.global_mean.to(features)}
        stds = {"global": self.global_std.to(features)}
        if {"utterance", "speaker"} & {mean_scope, std_scope}:
            count, mean, spread = _moments(features, lengths)
            means["utterance"] = mean[:, None]
            stds["utterance"] = (spread / count.clamp(min=1)).sqrt()[:, None]
            means["speaker"], stds["speaker"] = means["utterance"], stds["utterance"]
        if self.options.needs_speakers and cmvn is not None:
            cmvn = cmvn.to(features)
            unknown = cmvn.isnan().any(dim=2).any(dim=1)[:, None, None]
            means["speaker"] = torch.where(unknown, means["utterance"], cmvn[:, :1])
            stds["speaker"] = torch.where(unknown, stds["utterance"], cmvn[:, 1:])
        std = stds.get(std_scope)
        return means.get(mean_scope), None if std is None else std.masked_fill(std < SMALLEST_STD, 1.0)


def fit_global(normalizer: Normalizer, batches: Iterable[tuple]) -> None:
    """Sets the statistics over a training set from batches of (features (B, T, D), lengths (B,)[, cmvn (B, 2, D) or None]).

    The variance is that of the features after their mean is taken off as configured: with mean="utterance" it is the
    variance within utterances. Raises DataError if there are no frames or a value is not finite.
    """
    features_seen, centred_seen = StatisticsAccumulator(), StatisticsAccumulator()
    mean_only = Normalizer(NormalizeOptions(mean=normalizer.options.mean, variance="none"), len(normalizer.global_mean))
    own_mean = normalizer.options.mean in ("utterance", "speaker")
    for features, lengths, *cmvn in batches:
        features_seen.add(features, lengths)
        if own_mean:
            centred_seen.add(mean_only.to(features.device)(features, lengths, *cmvn), lengths)
    if not features_seen.frames():
        raise DataError("normalisation: expected frames to take the training set's mean and variance from, got none")
    mean, std = features_seen.statistics()
    if own_mean:
        std = centred_seen.statistics()[1]
    if not (mean.isfinite().all() and std.isfinite().all()):
        raise DataError("normalisation: features of the training set are not finite numbers; check the recordings")
    normalizer.global_mean.copy_(mean)
    normalizer.global_std.copy_(std)


def valid_frames(features: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, 1) bool: true within each utterance's length."""
    return (torch.arange(features.shape[1], device=features.device) < lengths.to(features.device)[:, None])[:, :, None]


def _moments(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (B, 1), means (B, D) and sums of squared deviations (B, D) over the valid frames of each utterance."""
    valid = valid_frames(features, lengths)
    count = valid.sum(dim=1).to(features.dtype)
    mean = features.masked_fill(~valid, 0.0).sum(dim=1) / count.clamp(min=1)
    spread = (features - mean[:, None]).masked_fill_(~valid, 0.0).square().sum(dim=1)
    return count, mean, spread
