"""Starting from another model: what fits is copied, what does not is listed."""

from asr.models.model import SpeechModel
from asr.text.tokenizer import Tokenizer


def copy_matching(source: SpeechModel, target: SpeechModel, symbols: Tokenizer, before: Tokenizer) -> str:
    """Copy the tensors of `source` whose name and shape fit; rows of the output layer go by symbol.

    Returns what was copied, what is fresh and what was not used, in words.
    """
    have, want = source.state_dict(), target.state_dict()
    rows = {symbol: row for row, symbol in enumerate(before.symbols)}
    copied, left = [], []
    for name, tensor in want.items():
        old = have.get(name)
        if name.startswith("head.") and old is not None and old.shape[1:] == tensor.shape[1:]:
            shared = [(row, rows[symbol]) for row, symbol in enumerate(symbols.symbols) if symbol in rows]
            for row, origin in shared:
                tensor[row] = old[origin]
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
