"""The cells of a recurrent layer: their options, their weights, and one time step of each, written to be read.

`rnn`: the simple recurrent network. `lstm`: the long short-term memory in the forms that followed one another, by switches:
the constant error carrousel with input and output gates (Hochreiter and Schmidhuber 1997: `forget_gate=False`), the forget
gate (Gers, Schmidhuber and Cummins 2000), peephole connections (Gers, Schraudolph and Schmidhuber 2002), the forget gate
coupled to the input gate (Greff et al. 2017), a projection of the outputs (Sak et al. 2014). `gru`: the gated recurrent unit
(Cho et al. 2014, with the reset gate behind the recurrent product, as torch and cuDNN have it). `asr.models.recurrence`
computes the same, faster.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

CELLS = ("mlp", "rnn", "lstm", "gru")
ACTIVATIONS = ("tanh", "relu")


@dataclass(frozen=True)
class CellOptions:
    """One layer's cell. `mlp` has no recurrence and is built by `asr.models.recurrent`."""

    #: mlp | rnn | lstm | gru
    cell: str = "lstm"
    #: Cells H.
    width: int = 256
    #: Squashing function of rnn and mlp: tanh | relu.
    activation: str = "tanh"
    #: lstm: cell states are multiplied by a forget gate; without it they are carried on with the fixed weight 1.
    forget_gate: bool = True
    #: lstm: gates see the cell states through diagonal weights.
    peepholes: bool = False
    #: lstm: the forget gate is one minus the input gate.
    coupled: bool = False
    #: lstm: outputs are projected to this size; 0 leaves them as they are.
    projection: int = 0
    #: mlp: frames seen on each side.
    context: int = 5
    #: Gradients flow back through at most this many frames; 0 for all.
    truncation: int = 0

    @property
    def gates(self) -> tuple[str, ...]:
        """Blocks of H rows in the input and recurrent weights, in their order."""
        if self.cell == "lstm":
            free = self.forget_gate and not self.coupled
            return ("input", "forget", "candidate", "output") if free else ("input", "candidate", "output")
        return ("reset", "update", "candidate") if self.cell == "gru" else ("hidden",)

    @property
    def output_size(self) -> int:
        """Size of the outputs of one direction."""
        return self.projection or self.width

    @property
    def in_library(self) -> bool:
        """Whether torch has a layer of this cell."""
        return self.cell in ("rnn", "gru") or (
            self.cell == "lstm" and self.forget_gate and not self.peepholes and not self.coupled
        )


class Cell(nn.Module):
    """The weights of one direction of one layer. H cells, P outputs (H without a projection), n gates.

    weight_in (nH, D), weight_rec (nH, P), bias (nH,); `bias_rec` (H,) of the gru's candidate, `peephole` (2 or 3, H) for the
    input, forget (if any) and output gate, `weight_proj` (P, H); None where the cell has none.
    """

    def __init__(self, input_size: int, options: CellOptions):
        super().__init__()
        rows, width, size = len(options.gates) * options.width, options.width, options.output_size
        self.options = options
        self.weight_in = nn.Parameter(torch.empty(rows, input_size))
        self.weight_rec = nn.Parameter(torch.empty(rows, size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.bias_rec = nn.Parameter(torch.empty(width)) if options.cell == "gru" else None
        self.peephole = nn.Parameter(torch.empty(len(options.gates) - 1, width)) if options.peepholes else None
        self.weight_proj = nn.Parameter(torch.empty(size, width)) if options.projection else None
        self.initialize("uniform", 0.0)

    @torch.no_grad()
    def initialize(self, initialization: str, forget_bias: float) -> None:
        """Draw start values from torch's generator: orthogonal (recurrent weights gate by gate, inputs Glorot) | uniform (+-0.1).

        `forget_bias` is added to the bias of a forget gate, and taken from the input gate that a forget gate is coupled to.
        """
        for name, weight in self.named_parameters():
            if initialization == "uniform":
                nn.init.uniform_(weight, -0.1, 0.1)
            elif "weight" not in name:
                nn.init.zeros_(weight)
            elif name == "weight_in":
                for gate in weight.chunk(len(self.options.gates)):
                    nn.init.xavier_uniform_(gate)
            else:
                for gate in weight.chunk(len(self.options.gates) if name == "weight_rec" else 1):
                    nn.init.orthogonal_(gate)
        opened = {"forget": forget_bias} if "forget" in self.options.gates else {}
        if self.options.cell == "lstm" and self.options.coupled:
            opened = {"input": -forget_bias}
        for gate, value in opened.items():
            self.bias.view(len(self.options.gates), -1)[self.options.gates.index(gate)] += value

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """Outputs (B, P) and cell states (B, H) before the first frame: zero. Cells without a cell state carry it along."""
        return self.bias.new_zeros(batch, self.options.output_size), self.bias.new_zeros(batch, self.options.width)

    def step(self, sums: Tensor, out: Tensor, state: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One time step, from what the inputs bring, sums (B, nH) = W x + b, to outputs (B, P), cell states (B, H) and gates."""
        names = self.options.gates
        recurrent = out @ self.weight_rec.t()
        if self.options.cell == "gru":
            assert self.bias_rec is not None
            (r, z, n), (ur, uz, un) = sums.chunk(3, dim=1), recurrent.chunk(3, dim=1)
            reset, update = torch.sigmoid(r + ur), torch.sigmoid(z + uz)
            candidate = torch.tanh(n + reset * (un + self.bias_rec))
            hidden = (1 - update) * candidate + update * out
            return hidden, state, {"reset": reset, "update": update, "candidate": candidate, "hidden": hidden}
        if self.options.cell == "rnn":
            hidden = getattr(torch, self.options.activation)(sums + recurrent)
            return hidden, state, {"hidden": hidden}
        pre = dict(zip(names, (sums + recurrent).chunk(len(names), dim=1)))
        peep = dict(zip([name for name in names if name != "candidate"], self.peephole)) if self.peephole is not None else {}
        # The input and forget gates see the cell state before this step, the output gate the one after it.
        gates = {"input": torch.sigmoid(pre["input"] + peep.get("input", 0) * state)}
        if "forget" in names:
            gates["forget"] = torch.sigmoid(pre["forget"] + peep.get("forget", 0) * state)
        elif self.options.coupled:
            gates["forget"] = 1 - gates["input"]
        gates["candidate"] = torch.tanh(pre["candidate"])
        state = gates.get("forget", 1) * state + gates["input"] * gates["candidate"]
        gates["output"] = torch.sigmoid(pre["output"] + peep.get("output", 0) * state)
        hidden = gates["output"] * torch.tanh(state)
        gates |= {"cell": state, "hidden": hidden}
        return (hidden if self.weight_proj is None else hidden @ self.weight_proj.t()), state, gates

    def unroll(
        self, x: Tensor, lengths: Tensor, state: tuple[Tensor, Tensor] | None = None, *, backwards: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor], dict[str, Tensor]]:
        """All steps of x (B, T, D) with lengths (B,), in plain torch operations; `backwards` from each utterance's last frame.

        Returns outputs (B, T, P), zero beyond a length, the state after the last step, and each gate (B, T, H).
        """
        sums = x @ self.weight_in.t() + self.bias
        out, cell = self.start(len(x)) if state is None else state
        outputs: list[Tensor] = []
        traces: list[dict[str, Tensor]] = []
        for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
            edge = t + 1 if backwards else t
            inside = (t < lengths).unsqueeze(1)
            if self.options.truncation and outputs and edge % self.options.truncation == 0:
                out, cell = (torch.where(inside, part.detach(), part) for part in (out, cell))
            new_out, new_cell, gates = self.step(sums[:, t], out, cell)
            out, cell = torch.where(inside, new_out, out), torch.where(inside, new_cell, cell)
            outputs.append(new_out * inside)
            traces.append({name: value * inside for name, value in gates.items()})
        if backwards:
            outputs, traces = outputs[::-1], traces[::-1]
        trace = {name: torch.stack([step[name] for step in traces], dim=1) for name in traces[0]}
        return torch.stack(outputs, dim=1), (out, cell), trace

    def library(self, x: Tensor) -> Tensor:
        """Outputs (B, T, P) of torch's own layer with these weights, from states of zero; only where `options.in_library`."""
        zero = torch.zeros_like(self.bias)
        if self.bias_rec is not None:
            zero = torch.cat([zero[: -self.options.width], self.bias_rec])
        weights = [self.weight_in, self.weight_rec, self.bias, zero]
        if self.weight_proj is not None:
            weights.append(self.weight_proj)
        out, state = (part.unsqueeze(0).to(x.dtype) for part in self.start(len(x)))
        settings = (
            True,
            1,
            0.0,
            torch.is_grad_enabled(),
            False,
            True,
        )  # biases, layers, dropout, training, two ways, batch first
        if self.options.cell == "lstm":
            return torch.lstm(x, (out, state), weights, *settings)[0]
        layer = torch.gru if self.options.cell == "gru" else getattr(torch, f"rnn_{self.options.activation}")
        return layer(x, out, weights, *settings)[0]
