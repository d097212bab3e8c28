"""What all pictures share: figures without any global state, colours that everyone can tell apart, a spectrogram.

Everything is drawn into `matplotlib.figure.Figure` objects with the Agg canvas; no window is opened and no setting changed.
"""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from PIL import Image

#: Okabe and Ito's colours, told apart with every kind of colour vision; black and yellow are left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F4F24")
GREY = "#666666"
#: Second mark of a line, so that colour is never the only one.
DASHES = ("-", "--", "-.", ":")
#: Low to high: readable in grey and with every kind of colour vision. Below zero to above zero: blue to red.
HEAT, DIVERGING = "viridis", "RdBu_r"
DPI = 120
#: Frequencies that a mel axis names, Hz.
HZ_TICKS = (100, 250, 500, 1000, 2000, 4000, 8000)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches whose parts make room for each other."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes. 256 colours that cover all it has, a third of the size."""
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # a script that the font lacks becomes boxes in the picture; the numbers beside it spell it out
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(drawn, dpi=DPI, format="png", metadata={"Software": None})
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture = io.BytesIO()
    few.save(picture, "PNG", optimize=True, dpi=(DPI, DPI))
    return picture.getvalue()


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> str:
    """Solid for the first round of colours, dashed for the second, and so on."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def tidy(axes: Axes, *, grid: bool = True) -> None:
    """No frame above and to the right, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    if grid:
        axes.grid(alpha=0.25, linewidth=0.6)


def shown_symbol(symbol: str) -> str:
    """A symbol as a picture shows it: the space as an open box, and no character that matplotlib reads as mathematics."""
    return "␣" if symbol == " " else symbol.replace("$", r"\$")


def plain_text(text: str) -> str:
    """A text of the user's, such as a file name, that matplotlib must not read as mathematics."""
    return text.replace("$", r"\$")


def cell_edges(centres: Sequence[float] | np.ndarray) -> np.ndarray:
    """(T,) equally spaced centres -> (T + 1,) edges of the cells around them."""
    centres = np.asarray(centres, dtype=np.float64)
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    return np.append(centres - step / 2, centres[-1] + step / 2)


def draw_spectrogram(axes: Axes, logmel: np.ndarray, times: np.ndarray, hz: np.ndarray, **options) -> None:
    """Log-mel energies (T, D), frame centres (T,) in s and filter centres (D,) in Hz as a grey picture, dark where loud."""
    low, high = np.percentile(logmel, [5, 99.5])
    mel_image(axes, logmel, times, hz, cmap="Greys", vmin=low, vmax=max(high, low + 1e-6), **options)


def mel_image(axes: Axes, values: np.ndarray, times: np.ndarray, hz: np.ndarray, *, named=HZ_TICKS, **options):
    """Values (T, D) over time in s and frequency, the filters equally far apart, `named` ones in kHz; returns the image."""
    edges = cell_edges(times)
    extent = (edges[0], edges[-1], -0.5, len(hz) - 0.5)
    image = axes.imshow(values.T, origin="lower", aspect="auto", interpolation="nearest", extent=extent, **options)
    ticks = [tick for tick in named if hz[0] <= tick <= hz[-1]]
    axes.yaxis.set_major_locator(FixedLocator(list(np.interp(ticks, hz, np.arange(len(hz))))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda _, position: f"{ticks[position or 0] / 1000:g}"))
    axes.set_ylabel("frequency, kHz", fontsize=9)
    axes.tick_params(labelsize=9)
    return image
