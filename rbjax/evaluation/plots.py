"""The report's plots, as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, LINES = "#334155", "#e2e8f0"
COLORS = ("#2563eb", "#b45309")


def loss_curve(losses: Sequence[tuple[int, float]]) -> bytes:
    """Returns the curve of (step, loss) pairs, thin, and its running mean, thick."""
    steps, values = np.array(losses, np.float64).T
    figure = Figure(figsize=(5.5, 2.6), dpi=160, layout="constrained")
    axis = figure.subplots()
    axis.plot(steps, values, color="#bfdbfe", linewidth=1)
    axis.plot(steps, _smooth(values), color="#2563eb", linewidth=2)
    if not (values <= 0).any():
        axis.set_yscale("log")
    axis.set_xlabel("training step", fontsize=10, color=INK)
    axis.set_ylabel("loss", fontsize=10, color=INK)
    _style(axis)
    return _png(figure)


def guidance(curves: Mapping[str, Sequence[Mapping[str, Any]]], x: str, ys: Sequence[str]) -> bytes:
    """Returns a plot above another: each y over x, a line a curve, its points with their guidance.

    Args:
        curves: name of a guidance to points, mappings of the names of guidances and of x and y to
            values, None where there is none.
        x: name of the values to the right.
        ys: names of the values upwards.
    """
    figure = Figure(figsize=(5.5, 3.2 * len(ys)), dpi=160, layout="constrained")
    for axis, y in zip(figure.subplots(len(ys), squeeze=False)[:, 0], ys, strict=True):
        for (name, points), color in zip(curves.items(), COLORS, strict=True):
            shown = [p for p in points if p[x] is not None and p[y] is not None]
            right, up = ([point[value] for point in shown] for value in (x, y))
            axis.plot(right, up, "o-", color=color, label=f"for {name}")
            for point in shown:
                place, text = (point[x], point[y]), f"{point[name]:g}"
                axis.annotate(text, place, (4, 4), textcoords="offset points", color=color)
        axis.set_xlabel(x, fontsize=10, color=INK)
        axis.set_ylabel(y, fontsize=10, color=INK)
        axis.legend(title="guidance", fontsize=9)
        _style(axis)
    return _png(figure)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Returns the mean over a centred window of a twentieth of the values, cut at the ends.

    What is not finite is left out; a window of nothing else is NaN.
    """
    half, known = max(len(values) // 40, 1), np.isfinite(values)
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(of)]) for of in (np.where(known, values, 0.0), known)
    )
    places = np.arange(len(values))
    start, stop = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    with np.errstate(invalid="ignore"):
        return (sums[stop] - sums[start]) / (counts[stop] - counts[start])


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
