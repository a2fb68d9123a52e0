"""The third tab: a run's report while it trains, and requests to it."""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from rbjax.demo_page import pictures, results, widgets
from rbjax.demo_page.widgets import QUIET
from rbjax.evaluation import plots
from rbjax.evaluation import results as results_lib
from rbjax.experiment import workdir as workdir_lib
from rbjax.storage import StoredPath

EVERY = 5.0  # seconds between two readings
TITLES = {"sample_now": "Sample now", "save_now": "Save now"}
NOTES = {
    "sample_now": "Asked for samples: they come after the step that runs.",
    "save_now": "Asked for a checkpoint: it comes after the step that runs.",
}


def build(runs: Sequence[StoredPath], tab: gr.Tab, others: Sequence[gr.Tab]) -> None:
    """Makes the tab's content, which is renewed while the tab is open.

    Args:
        runs: working directories.
        tab: that this is the content of.
        others: the page's other tabs.
    """
    if not runs:
        gr.Markdown("Start with `--run DIR`, the `--workdir` of a training, to see it here.")
        return
    names = {_name(run, runs): run for run in runs}
    chosen = gr.Dropdown(list(names), value=next(iter(names)), label="Run")
    with gr.Row():
        buttons = {
            request: gr.Button(title, elem_id=request.replace("_", "-"))
            for request, title in TITLES.items()
        }
    status, shown = widgets.status("run-status"), widgets.status("run-report")

    def show(name: str) -> str:
        return report(names[name])

    for request, button in buttons.items():

        def ask(name: str, request: str = request) -> str:
            try:
                workdir_lib.request(names[name], request)
            except ValueError as error:
                return results.status(str(error), is_error=True)
            return results.status(NOTES[request])

        button.click(ask, chosen, status, queue=False, **QUIET)
    timer = gr.Timer(EVERY, active=False)
    timer.tick(show, chosen, shown, queue=False, **QUIET)
    tab.select(show, chosen, shown, queue=False, **QUIET)
    tab.select(lambda: gr.Timer(active=True), None, timer, queue=False, **QUIET)
    for other in others:
        other.select(lambda: gr.Timer(active=False), None, timer, queue=False, **QUIET)
    chosen.change(show, chosen, shown, queue=False, **QUIET)


def report(workdir: StoredPath) -> str:
    """Returns the HTML of what a run has written so far; paths are not in it."""
    losses = workdir_lib.read_loss_history(workdir)
    samples = sorted((workdir / "samples").glob("*.png"))[-1:]
    config = _json(workdir / "config.json")
    scores = _json(workdir / "results.json") or _json(workdir / workdir_lib.PERIODIC_RESULTS)
    saved = (path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())
    return results.template("run.html.jinja").render(
        step=losses[-1][0] if losses else 0,
        total=config.get("total_steps", "?"),
        loss=f"{losses[-1][1]:.4f}" if losses else "",
        checkpoints=", ".join(sorted(saved, key=int)),
        curve=pictures.png_url(plots.loss_curve(losses)) if len(losses) > 1 else "",
        samples=pictures.png_url(samples[0].read_bytes()) if samples else "",
        samples_step=int(samples[0].stem) if samples else 0,
        scored=scores.get("step", 0),
        table=_table(scores),
    )


def _table(scores: dict[str, Any]) -> str:
    """Returns the scores as text; "" where there are none yet."""
    try:
        return results_lib.table(scores) if scores else ""
    except (KeyError, TypeError):  # other columns than today's
        return "They were written by another version of rbjax: see report/index.html of the run."


def _json(path: StoredPath) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _name(run: StoredPath, runs: Sequence[StoredPath]) -> str:
    """Returns a run's name for people: that of its directory, numbered where two are equal."""
    name = run.resolve().name
    equal = [other for other in runs if other.resolve().name == name]
    return name if len(equal) == 1 else f"{name} ({equal.index(run) + 1})"
