"""What a training step minimises: CTC, and by option consistency between two views, CTC in the middle of the encoder, and edits.

Consistency regularisation (CR-CTC, Yao et al. 2024, equations 3 to 5): two views of each utterance, masked independently, each
teach the other, D = 1/2 sum over frames of KL(sg p_b || p_a) + KL(sg p_a || p_b), where sg passes no gradient. Intermediate CTC
(Lee and Watanabe 2021, equation 12): the outputs of a middle layer go through the same output layer to a CTC loss of their own;
where the encoder is self-conditioned, through the output layer that the layers above read.
Expected edits (Graves and Jaitly 2014, section 4): what a path drawn from the outputs costs, for a model that CTC has trained.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.batches.dataset import Batch
from asr.errors import UsageError
from asr.features.augment import AugmentOptions, SpecAugment
from asr.features.filterbank import FeatureOptions, mel_centres_hz
from asr.models.ctc import check_targets, ctc_loss
from asr.models.encoder import EncoderOptions
from asr.models.expected_edits import expected_edits
from asr.models.model import Emissions, SpeechModel
from asr.models.recurrent import valid_frames

#: Turns the seeds of the first view into those of the second.
SECOND_VIEW = 0x5DEECE66D


@dataclass
class ObjectiveOptions:
    #: weight of the consistency between two masked views of each utterance (0 = one view; the paper takes 0.2)
    consistency: float = 0.0
    #: epoch, counted from 0, from which consistency is asked for: before it, each utterance is heard once, in half the time
    consistency_start_epoch: int = 0
    #: share of the loss that a CTC output in the middle of the encoder has, 0 to below 1
    intermediate: float = 0.0
    #: layer after which that output stands, counted from 1 (0 = half of the layers, rounded down)
    intermediate_layer: int = 0
    #: share of the loss of the last layer that the expected number of edits has, 0 to 1 (for a trained model: see `init`)
    expected_edits: float = 0.0
    #: paths drawn from each utterance to estimate it
    paths: int = 8

    def __post_init__(self) -> None:
        if not 0.0 <= self.consistency <= 100.0:
            raise UsageError(f"objective.consistency={self.consistency} is out of range: use a weight from 0 to 100")
        if self.consistency_start_epoch < 0:
            raise UsageError(f"objective.consistency_start_epoch must not be negative, got {self.consistency_start_epoch}")
        if not 0.0 <= self.intermediate < 1.0:
            raise UsageError(f"objective.intermediate={self.intermediate} is out of range: use a share from 0 to below 1")
        if self.intermediate_layer < 0:
            raise UsageError(f"objective.intermediate_layer must not be negative, got {self.intermediate_layer}")
        if not 0.0 <= self.expected_edits <= 1.0:
            raise UsageError(f"objective.expected_edits={self.expected_edits} is out of range: use a share from 0 to 1")
        if not 1 <= self.paths <= 10000:
            raise UsageError(f"objective.paths={self.paths} is out of range: use a number from 1 to 10000")

    def layer(self, encoder: EncoderOptions) -> int:
        """The layer of the middle output in such an encoder; 0 for none. Raises UsageError where there is none."""
        layers, conditioned = encoder.layers, encoder.self_conditioned
        if not self.intermediate:
            if conditioned:
                raise UsageError(
                    f"encoder.self_conditioned={conditioned} with objective.intermediate=0: nothing would teach the output that "
                    "the layers above read; use a share such as objective.intermediate=0.3"
                )
            return 0
        if conditioned and self.intermediate_layer not in (0, conditioned):
            raise UsageError(
                f"objective.intermediate_layer={self.intermediate_layer} with encoder.self_conditioned={conditioned}: the middle "
                "output is the one that the layers above read; leave objective.intermediate_layer out"
            )
        if layers == 1:
            raise UsageError(
                f"objective.intermediate={self.intermediate} with encoder.layers=1: one layer has no middle output; use "
                "objective.intermediate=0 or more layers"
            )
        chosen = conditioned or self.intermediate_layer or layers // 2
        if not 0 < chosen < layers:
            raise UsageError(
                f"objective.intermediate_layer={self.intermediate_layer} with encoder.layers={layers}: the middle output needs a "
                "layer below the last one; use a smaller number or more layers"
            )
        return chosen


class Objective:
    """Losses of a batch, one per utterance. Masks are drawn from the seeds of the batch, so they do not depend on its order."""

    def __init__(self, options: ObjectiveOptions, *, encoder: EncoderOptions, features: FeatureOptions):
        self.options = options
        self.layer = options.layer(encoder)
        self.blocks = features.deltas + 1
        self.centres_hz = mel_centres_hz(features)

    def losses(self, model: SpeechModel, batch: Batch, augment: AugmentOptions, autocast, *, epoch: int = 0) -> Tensor:
        """(B,) losses; `augment` are the masks of this epoch, counted from 0, `autocast` the context the encoder runs in.

        With consistency the encoder hears each utterance twice, so a step costs about twice as much.
        """
        views = 2 if self.options.consistency and epoch >= self.options.consistency_start_epoch else 1
        spec = SpecAugment(augment, blocks=self.blocks, centres_hz=self.centres_hz)
        seeds = torch.cat([batch.seeds, batch.seeds ^ SECOND_VIEW]) if views == 2 else batch.seeds
        with autocast():
            emissions = model(
                batch.waveforms.repeat(views, 1),
                batch.waveform_lengths.repeat(views),
                cmvn=None if batch.cmvn is None else batch.cmvn.repeat(views, 1, 1),
                spec_augment=lambda features, lengths: spec(features, lengths, seeds),
                middle_layer=self.layer,
            )
        targets, target_lengths = batch.tokens.repeat(views, 1), batch.token_lengths.repeat(views)
        check_targets(targets, target_lengths, emissions.lengths, emissions.log_probs.shape[2], batch.ids * views)
        losses = self._mixed(emissions, targets, target_lengths, seeds)
        if views == 1:
            return losses
        first, second = losses.chunk(2)
        return 0.5 * (first + second) + self.options.consistency * consistency(emissions)

    def _mixed(self, emissions: Emissions, targets: Tensor, target_lengths: Tensor, seeds: Tensor) -> Tensor:
        losses = ctc_loss(emissions.log_probs, emissions.lengths, targets, target_lengths)
        if share := self.options.expected_edits:
            edits = expected_edits(
                emissions.log_probs, emissions.lengths, targets, target_lengths, seeds, paths=self.options.paths
            )
            losses = (1 - share) * losses + share * edits
        if emissions.middle is None:
            return losses
        share = self.options.intermediate
        return (1 - share) * losses + share * ctc_loss(emissions.middle, emissions.lengths, targets, target_lengths)


def consistency(emissions: Emissions) -> Tensor:
    """(B,) divergence between the two halves of the batch (2B, T', V), summed over the valid frames of each utterance."""
    first, second = emissions.log_probs.chunk(2)
    inside = valid_frames(emissions.lengths[: len(first)], first.shape[1])
    total = torch.zeros_like(first[:, :, 0])
    for taught, teacher in ((first, second.detach()), (second, first.detach())):
        total = total + (teacher.exp() * (teacher - taught)).sum(dim=2)
    return 0.5 * torch.where(inside, total, torch.zeros_like(total)).sum(dim=1)
