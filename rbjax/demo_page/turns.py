"""Whose images are made: one at a time for all users of a page, and none that are cancelled.

Not Gradio's `cancels`: it closes the session's stream, and what the user asks for before the server
has noticed is lost.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import gradio as gr

from rbjax.demo_page import results
from rbjax.demo_page.widgets import QUIET

EVERY = 0.2  # seconds between two looks whether who waits has cancelled
REMEMBERED = 1000  # cancelled requests
QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 16}  # users at once
# A new request of a tab ends the former one.
NEW_TICKET = """(...values) => {
  const tickets = (document.rbjaxTickets ??= {});
  const former = tickets.NAME || "";
  tickets.NAME = `${Math.random().toString(36).slice(2)}${Date.now()}`;
  return [...values.slice(0, -1), `${former} ${tickets.NAME}`];
}"""
OWN_TICKET = "() => document.rbjaxTickets?.NAME || ''"

Made = TypeVar("Made")


class Turns:
    """What the users of a page share; a ticket is a text that their browser gives a request."""

    def __init__(self) -> None:
        """Nobody has asked for anything yet."""
        self._model = threading.Lock()
        self._cancelled: dict[str, None] = {}  # in the order of cancelling

    def cancel(self, ticket: str) -> None:
        """Ends a request after the image that is being made, or before its turn."""
        self._cancelled[str(ticket)[:64]] = None
        for old in list(self._cancelled)[:-REMEMBERED]:
            self._cancelled.pop(old, None)

    def take(self, ticket: str, made: Iterator[Made]) -> Iterator[Made]:
        """Yields what an iterator makes, after waiting for the model each time.

        Args:
            ticket: of the request; nothing more is made once it is cancelled.
            made: makes an image with each step.
        """
        while ticket not in self._cancelled:
            if not self._model.acquire(timeout=EVERY):
                continue
            try:  # nothing is yielded inside: who closes the page does not keep the model
                found = list(itertools.islice(made, int(ticket not in self._cancelled)))
            finally:
                self._model.release()
            if not found:
                return
            if ticket not in self._cancelled:
                yield found[0]


def connect(
    turns: Turns,
    ask: Sequence[Any],
    cancel: gr.Button,
    run: Callable[..., Iterator[tuple[Any, ...]]],
    *,
    name: str,
    inputs: Sequence[Any],
    told: tuple[gr.HTML, gr.HTML],
    outputs: Sequence[Any],
) -> None:
    """Lets events make a request, and a button cancel it.

    Args:
        turns: of the page.
        ask: events that make the request.
        cancel: the button.
        run: of the request's ticket and the inputs' values; yields a status and the outputs'
            values.
        name: of the tab, a word.
        inputs: components.
        told: of `widgets.told`.
        outputs: components.
    """
    status, note = told

    def run_newest(*values: Any) -> Iterator[tuple[Any, ...]]:
        former, _, ticket = str(values[-1]).partition(" ")
        turns.cancel(former)
        yield from run(ticket, *values[:-1])

    waits = json.dumps([results.status("Waiting for the model ..."), ""])
    gr.on(list(ask), None, None, [status, note], js=f"() => {waits}", **QUIET)
    gr.on(
        list(ask),
        run_newest,
        [*inputs, note],  # the note's value is replaced by the tickets
        [status, *outputs],
        js=NEW_TICKET.replace("NAME", name),
        trigger_mode="multiple",
        **QUIET,
        **QUEUE,
    )
    said = json.dumps(results.status("Cancelled."))
    cancel.click(None, None, note, js=f"() => {said}", **QUIET)
    ticket = OWN_TICKET.replace("NAME", name)
    cancel.click(turns.cancel, note, None, js=ticket, queue=False, **QUIET)
