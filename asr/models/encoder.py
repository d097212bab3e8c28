"""From features to hidden frames: a front-end that shortens time, then a stack of recurrent layers."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.errors import UsageError
from asr.models.cells import ACTIVATIONS, CELLS, CellOptions
from asr.models.ctc import CtcHead
from asr.models.device import low_precision_pays
from asr.models.recurrent import build_layer, valid_frames

#: Time strides of the two convolutions for each subsampling.
TIME_STRIDES = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 6: (3, 2)}
INITIALIZATIONS = ("orthogonal", "uniform")
#: Start values of the residual convolutions are so much smaller: the front-end begins as one without them.
BLOCK_GAIN = 0.3


@dataclass
class EncoderOptions:
    """Shape of the encoder. `__post_init__` raises UsageError naming the option."""

    #: How features enter: conv (two 3x3 convolutions) | stack (neighbouring frames side by side).
    frontend: str = "conv"
    #: Feature frames per encoder frame: 1, 2, 3, 4 or 6.
    subsampling: int = 2
    #: Channels of each convolution of the conv front-end.
    conv_channels: int = 32
    #: Further 3x3 convolutions behind those two, each added to what it reads (frontend=conv).
    conv_blocks: int = 0
    #: Size of a linear layer between front-end and first recurrent layer; 0 leaves it out.
    projection: int = 0
    #: Cell of the layers: mlp (feed-forward) | rnn | lstm | gru.
    cell: str = "lstm"
    #: Squashing function (cell=rnn or mlp): tanh | relu.
    activation: str = "tanh"
    #: Cell states pass a forget gate (cell=lstm); false gives the fixed carrousel of 1997.
    forget_gate: bool = True
    #: Gates see the cell states through diagonal weights (cell=lstm).
    peepholes: bool = False
    #: The forget gate is one minus the input gate (cell=lstm).
    coupled: bool = False
    #: Size that the outputs of each direction are projected to (cell=lstm); 0 leaves them as they are.
    cell_projection: int = 0
    #: Frames that the first layer sees on each side (cell=mlp); deeper layers see one frame.
    context: int = 5
    #: Encoder frames that gradients flow back through the recurrence; 0 for all.
    truncation: int = 0
    #: Standard deviation of the Gaussian noise added to the normalised features in training; 0 for none.
    input_noise: float = 0.0
    #: Number of recurrent layers, 1 to 8.
    layers: int = 3
    #: Cells per layer and direction.
    width: int = 256
    #: Read each utterance in both directions; false gives an encoder that can stream.
    bidirectional: bool = True
    #: Probability that a value entering a recurrent layer or the output layer is dropped in training, 0 to below 1.
    dropout: float = 0.2
    #: Drop the same values in all frames of an utterance (Gal and Ghahramani 2016), not others in each frame.
    locked_dropout: bool = False
    #: Normalise the inputs of each recurrent layer over their features, frame by frame.
    layer_norm: bool = True
    #: Layer, counted from 1, whose own CTC output the layers above it read too; 0 for none (needs `objective.intermediate`).
    self_conditioned: int = 0
    #: Start of the forget gates' bias (cell=lstm), no unit.
    forget_bias: float = 1.0
    #: Start of the recurrent weights: orthogonal (per gate) | uniform (all of them within +-0.1).
    initialization: str = "orthogonal"

    def __post_init__(self) -> None:
        for name, choices in (
            ("frontend", FRONTENDS),
            ("cell", CELLS),
            ("activation", ACTIVATIONS),
            ("initialization", INITIALIZATIONS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"encoder.{name}={getattr(self, name)!r} is not known: choose one of {', '.join(choices)}")
        if self.subsampling not in TIME_STRIDES:
            raise UsageError(
                f"encoder.subsampling={self.subsampling} is out of range: use one of {', '.join(map(str, TIME_STRIDES))}"
            )
        limits = {
            "conv_channels": (1, 4096),
            "conv_blocks": (0, 64),
            "projection": (0, 2**16),
            "layers": (1, 8),
            "width": (1, 2**16),
            "cell_projection": (0, 2**16),
            "context": (0, 1000),
            "truncation": (0, 2**31),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"encoder.{name}={value} is out of range: use a whole number from {low} to {high}")
        if self.conv_blocks and self.frontend != "conv":
            raise UsageError(
                f"encoder.conv_blocks={self.conv_blocks} does not go with encoder.frontend={self.frontend}: it is for conv; "
                "leave it out"
            )
        if not 0 <= self.self_conditioned < self.layers:
            advice = "use 0 for none, or a layer below the last one"
            if self.layers == 1:
                advice = "there is none below it; use encoder.self_conditioned=0 objective.intermediate=0"
            raise UsageError(f"encoder.self_conditioned={self.self_conditioned} with encoder.layers={self.layers}: {advice}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"encoder.dropout={self.dropout} is out of range: use a probability from 0 to below 1")
        if not -100.0 <= self.forget_bias <= 100.0:
            raise UsageError(f"encoder.forget_bias={self.forget_bias} is out of range: use a number from -100 to 100")
        if not 0.0 <= self.input_noise <= 100.0:
            raise UsageError(f"encoder.input_noise={self.input_noise} is out of range: use a standard deviation from 0 to 100")
        self._check_cell()

    def _check_cell(self) -> None:
        """Refuse switches that the chosen cell does not have."""
        where = {
            "forget_gate": ("lstm",),
            "peepholes": ("lstm",),
            "coupled": ("lstm",),
            "cell_projection": ("lstm",),
            "forget_bias": ("lstm",),
            "activation": ("rnn", "mlp"),
            "context": ("mlp",),
            "truncation": ("rnn", "lstm", "gru"),
        }
        for name, cells in where.items():
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != default and self.cell not in cells:
                typed = str(value).lower() if isinstance(value, bool) else value
                belongs = f"it is for {' and '.join(cells)}; leave it out"
                raise UsageError(f"encoder.{name}={typed} does not go with encoder.cell={self.cell}: {belongs}")
        if self.coupled and not self.forget_gate:
            raise UsageError(
                "encoder.coupled=true does not go with encoder.forget_gate=false: coupling makes a forget gate out of the input "
                "gate; leave one of them out"
            )

        if not self.forget_gate and self.forget_bias != type(self).__dataclass_fields__["forget_bias"].default:
            raise UsageError(
                f"encoder.forget_bias={self.forget_bias} does not go with encoder.forget_gate=false: there is no gate to bias; "
                "leave one of them out"
            )

    def cell_options(self) -> CellOptions:
        """The cell of the first layer."""
        return CellOptions(
            cell=self.cell,
            width=self.width,
            activation=self.activation,
            forget_gate=self.forget_gate,
            peepholes=self.peepholes,
            coupled=self.coupled,
            projection=self.cell_projection,
            context=self.context,
            truncation=self.truncation,
        )


class ConvFrontend(nn.Module):
    """Two 3x3 convolutions with ReLU; frequency is halved twice, time by the strides of `TIME_STRIDES`.

    (B, T, D) -> (B, ceil(T / subsampling), channels * ceil(D / 4)). Encoder frame t is centred on feature frame
    subsampling * t. `conv_blocks` further ones keep that shape, x + ReLU(convolution of x): shortcuts as of He et al. (2016).
    Frames beyond an utterance's length are re-zeroed after each convolution, so an utterance sees the same zeros at its end in
    any batch. No statistic is taken over a batch.
    """

    def __init__(self, options: EncoderOptions, input_size: int):
        super().__init__()
        channels = options.conv_channels
        self.strides = TIME_STRIDES[options.subsampling]
        self.first = nn.Conv2d(1, channels, 3, stride=(self.strides[0], 2), padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=(self.strides[1], 2), padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(options.conv_blocks))
        self.output_size = channels * -(-input_size // 4)
        self.centre = 0.5
        for layer in (self.first, self.second, *self.blocks):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            for block in self.blocks:
                block.weight.mul_(BLOCK_GAIN)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        # The one channel lies last, as those of the convolutions do: else the library takes the first one for the other layout.
        x = _masked(features, lengths).unsqueeze(3).permute(0, 3, 1, 2)
        for layer, stride in zip((self.first, self.second), self.strides):
            lengths = -(-lengths // stride)
            x = _convolved(layer, x)
            valid = valid_frames(lengths, x.shape[2])[:, None, :, None]
            x = x.mul_(valid).relu_()
        for block in self.blocks:
            x = x + _convolved(block, x).mul_(valid).relu_()
        if x.requires_grad:
            x.register_hook(_channels_last)  # the gradient comes back as the projection lays it
        return x.transpose(1, 2).flatten(2)


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """layer(x), computed with the channels of a place side by side, which is faster on a CPU.

    The weights themselves stay as they are: the optimiser's moments, once read from a checkpoint, would lie otherwise than they.
    Through the matrix of the weights their gradient lies as they do, with one input channel, too: several processes ask for it.
    """
    weight = layer.weight.flatten(1).view_as(layer.weight)
    return F.conv2d(x, _channels_last(weight), layer.bias, layer.stride, layer.padding)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class StackFrontend(nn.Module):
    """`subsampling` neighbouring frames side by side: (B, T, D) -> (B, ceil(T / subsampling), subsampling * D).

    The last frame of an utterance is completed with zeros.
    """

    def __init__(self, options: EncoderOptions, input_size: int):
        super().__init__()
        self.subsampling = options.subsampling
        self.output_size = options.subsampling * input_size
        self.centre = 0.5 * options.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        x = _masked(features, lengths)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.subsampling))
        return x.reshape(x.shape[0], x.shape[1] // self.subsampling, self.output_size)


FRONTENDS = {"conv": ConvFrontend, "stack": StackFrontend}


class Dropout(nn.Module):
    """`nn.Dropout` with 16 random bits per value in place of one floating-point draw: on a CPU half the time.

    The probability is rounded to a multiple of 1 / 65536, and the values kept are scaled by exactly one over their share.
    `locked`: x is (B, T, D), and what is dropped is the same in all its frames: noise that a recurrent layer cannot average out.
    """

    def __init__(self, probability: float, *, locked: bool = False):
        super().__init__()
        self.probability, self.locked = probability, locked

    def forward(self, x: Tensor) -> Tensor:
        dropped = min(round(self.probability * 65536), 65535)
        if not self.training or dropped == 0 or x.numel() == 0:
            return x
        if self.locked:
            return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.probability)
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 32768
        return x * kept.to(x.dtype).mul_(65536 / (65536 - dropped))


class SelfConditioning(nn.Module):
    """A CTC output in the middle of the encoder, and what it says added to its input (Nozaki and Komatsu 2021).

    Outputs of CTC do not see each other; layers that read a first draft of them do.
    """

    def __init__(self, size: int, vocabulary: int, *, uniform: bool = False):
        super().__init__()
        self.head = CtcHead(size, vocabulary, uniform=uniform)
        self.back = nn.Linear(vocabulary, size, bias=False)
        if uniform:
            nn.init.uniform_(self.back.weight, -0.1, 0.1)

    def forward(self, x: Tensor, dropped: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T', H), the same after dropout, lengths (B,) -> x with the output in it, log-probabilities (B, T', V)."""
        log_probs = self.head(dropped)
        return x + _masked(self.back(log_probs.exp()), lengths).to(x.dtype), log_probs


class Encoder(nn.Module):
    """Front-end, optional projection, then for each layer: layer normalisation, dropout, recurrence.

    Maps features (B, T, D) and lengths (B,) to (B, T', E) and (B,), T' = ceil(T / subsampling); frames beyond a length are
    zero. An utterance of no frames, or a batch of none, gives no frames. `centre_frames` is the centre of encoder frame 0,
    counted in feature frames. Under autocast it runs in the lower precision, but on a CPU where that is slower, in float32.
    `initialize=False` saves the start values of the recurrent weights when others are loaded at once. `vocabulary`, V with
    the blank, is needed for `self_conditioned` alone.
    """

    def __init__(self, options: EncoderOptions, input_size: int, *, vocabulary: int = 0, initialize: bool = True):
        super().__init__()
        self.subsampling = options.subsampling
        self.input_noise = options.input_noise
        self.frontend = FRONTENDS[options.frontend](options, input_size)
        self.centre_frames: float = self.frontend.centre
        size: int = self.frontend.output_size
        self.projection = nn.Linear(size, options.projection) if options.projection else nn.Identity()
        size = options.projection or size
        self.norms = nn.ModuleList()
        self.layers = nn.ModuleList()
        cell = options.cell_options()
        for _ in range(options.layers):
            self.norms.append(nn.LayerNorm(size) if options.layer_norm else nn.Identity())
            layer = build_layer(size, cell, bidirectional=options.bidirectional)
            if initialize:
                layer.initialize(options.initialization, options.forget_bias)
            self.layers.append(layer)
            size, cell = layer.output_size, replace(cell, context=0)
        self.dropout = Dropout(options.dropout, locked=options.locked_dropout)
        self.output_size = size
        self.self_conditioned = options.self_conditioned
        if options.self_conditioned:
            self.condition = SelfConditioning(size, vocabulary, uniform=options.initialization == "uniform")

    def output_length(self, frames: int) -> int:
        """Feature frames T -> encoder frames T', as `forward` gives them."""
        return -(-frames // self.subsampling)

    def forward(
        self, features: Tensor, lengths: Tensor, *, outputs: list[Tensor] | None = None, drafts: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the class says.

        The outputs of each layer, before dropout, are added to `outputs` where it is given, and to `drafts` the
        log-probabilities (B, T', V) of the layer that is `self_conditioned`.
        """
        out_lengths = -(-lengths // self.subsampling)
        if features.shape[0] * features.shape[1] == 0:
            return features.new_zeros(features.shape[0], features.shape[1], self.output_size), out_lengths
        device = features.device.type
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and low_precision_pays(device)):
            if self.training and self.input_noise:
                features = features + self.input_noise * torch.randn_like(features)
            x = self.projection(self.frontend(features, lengths))
            for number, (norm, layer) in enumerate(zip(self.norms, self.layers), 1):
                x = layer(self.dropout(norm(x)), out_lengths)
                if outputs is not None:
                    outputs.append(x)
                if number == self.self_conditioned:
                    x, draft = self.condition(x, self.dropout(x), out_lengths)
                    if drafts is not None:
                        drafts.append(draft)
            return self.dropout(x), out_lengths


def _masked(x: Tensor, lengths: Tensor) -> Tensor:
    return x * valid_frames(lengths, x.shape[1]).unsqueeze(2)
