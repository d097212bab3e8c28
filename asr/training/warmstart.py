"""Starting from another model: what fits is copied, what does not is listed."""

from torch import Tensor

from asr.models.model import SpeechModel
from asr.text.tokenizer import Tokenizer


def copy_matching(source: SpeechModel, target: SpeechModel, symbols: Tokenizer, before: Tokenizer) -> str:
    """Copy the tensors of `source` whose name and shape fit; what the output layers hold for a symbol goes to the same symbol.

    Returns what was copied, what is fresh and what was not used, in words.
    """
    have, want = source.state_dict(), target.state_dict()
    places = {symbol: place for place, symbol in enumerate(before.symbols)}
    shared = [(place, places[symbol]) for place, symbol in enumerate(symbols.symbols) if symbol in places]
    copied, left = [], []
    for name, tensor in want.items():
        old = have.get(name)
        axis = _symbol_axis(name)
        if axis is not None and old is not None and _others(old, axis) == _others(tensor, axis):
            for place, origin in shared:
                tensor.select(axis, place).copy_(old.select(axis, origin))
            copied.append(name)
            if len(shared) < len(symbols.symbols):
                left.append(f"{name} ({len(symbols.symbols) - len(shared)} new symbols)")
        elif old is not None and old.shape == tensor.shape:
            tensor.copy_(old)
            copied.append(name)
        else:
            left.append(f"{name} ({'missing' if old is None else f'{tuple(old.shape)} there, {tuple(tensor.shape)} here'})")
    unused = sorted(have.keys() - want.keys())
    text = f"init: {len(copied)} of {len(want)} tensors copied"
    if left:
        text += f"; fresh: {', '.join(left)}"
    return text + (f"; not used: {', '.join(unused)}" if unused else "")


def _symbol_axis(name: str) -> int | None:
    """The axis of a tensor that counts symbols; None where none does."""
    if name == "encoder.condition.back.weight":
        return 1
    return 0 if name.removeprefix("encoder.condition.").startswith("head.") else None


def _others(tensor: Tensor, axis: int) -> tuple[int, ...]:
    """The sizes of all other axes."""
    return tuple(tensor.shape[:axis]) + tuple(tensor.shape[axis + 1 :])
