"""The report's plots, as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rbjax.evaluation.results import label

COLOURS = {
    "trained": "#2563eb",
    "references_blanked": "#94a3b8",
    "other_references": "#cbd5e1",
    "copy_reference": "#f59e0b",
    "paste": "#a855f7",
    "nearest_training": "#fb7185",
    "real_images": "#16a34a",
    "constant": "#e5e7eb",
    "mean": "#e5e7eb",
    "noise": "#e5e7eb",
}
INK, LINES, OTHER = "#334155", "#e2e8f0", "#93c5fd"


def bars(results: Mapping[str, Any], columns: Sequence[str]) -> bytes:
    """Returns one panel a column: a bar a system with its interval, in percent."""
    figure = Figure(figsize=(10.5, 4.6), dpi=130, layout="constrained")
    axes = figure.subplots(2, -(-len(columns) // 2), squeeze=False)
    for axis, column in zip(axes.flat, columns, strict=False):
        _draw_bars(axis, results["rows"], column)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        names = [label(system) for system in results["rows"]]
        axis.set_yticks(range(len(names)), names, fontsize=9, color=INK)
    return _png(figure)


def _draw_bars(axis: Axes, systems: Mapping[str, Any], column: str) -> None:
    for place, (system, values) in enumerate(systems.items()):
        value = values[column]
        if value is None:
            continue
        mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
        axis.barh(place, mean, color=COLOURS.get(system, OTHER), height=0.72)
        axis.plot([low, high], [place, place], color=INK, linewidth=1.6)
        axis.text(max(high, mean) + 2, place, f"{mean:.0f}", va="center", fontsize=8, color=INK)
    axis.set_title(label(column), fontsize=10, color=INK, loc="left")
    axis.set(xlim=(0, 115), ylim=(len(systems) - 0.4, -0.6), yticks=[])
    axis.set_xticks(range(0, 101, 25))
    _style(axis)


def loss_curve(losses: Sequence[tuple[int, float]]) -> bytes:
    """Returns the curve of (step, loss) pairs, thin, and its running mean, thick."""
    steps, values = np.array(losses, np.float64).T
    figure = Figure(figsize=(10.5, 2.8), dpi=130, layout="constrained")
    axis = figure.subplots()
    axis.plot(steps, values, color="#bfdbfe", linewidth=1)
    axis.plot(steps, _smooth(values), color="#2563eb", linewidth=2)
    if (values > 0).all():
        axis.set_yscale("log")
    axis.set_xlabel("training step", fontsize=9, color=INK)
    axis.set_ylabel("loss", fontsize=9, color=INK)
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
    axis.tick_params(length=0, labelsize=8, labelcolor=INK, which="both")
    for spine in axis.spines.values():
        spine.set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
