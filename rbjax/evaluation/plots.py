"""The report's plot, as a PNG file in memory."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, LINES = "#334155", "#e2e8f0"


def loss_curve(losses: Sequence[tuple[int, float]]) -> bytes:
    """Returns the curve of (step, loss) pairs, thin, and its running mean, thick."""
    steps, values = np.array(losses, np.float64).T
    figure = Figure(figsize=(5.5, 2.6), dpi=160, layout="constrained")
    axis = figure.subplots()
    axis.plot(steps, values, color="#bfdbfe", linewidth=1)
    axis.plot(steps, _smooth(values), color="#2563eb", linewidth=2)
    if (values > 0).all():
        axis.set_yscale("log")
    axis.set_xlabel("training step", fontsize=10, color=INK)
    axis.set_ylabel("loss", fontsize=10, color=INK)
    _style(axis)
    return _png(figure)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Returns the mean over a centred window of a twentieth of the values, cut at the ends."""
    half = max(len(values) // 40, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    start, stop = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def _style(axis: Axes) -> None:
    axis.grid(axis="both", color=LINES, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=10, labelcolor=INK, which="both")
    for spine in axis.spines.values():
        spine.set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
