"""Users share a model, and cancel."""

import threading

import pytest

pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")

from rbjax.demo_page import turns as turns_lib  # noqa: E402
from rbjax.demo_page.turns import Turns  # noqa: E402


def test_all_is_made_in_order():
    assert list(Turns().take("a", iter(range(5)))) == [0, 1, 2, 3, 4]


def test_nothing_is_made_once_it_is_cancelled():
    turns, made = Turns(), []

    def make():
        for number in range(5):
            made.append(number)
            yield number

    found = turns.take("a", make())
    assert next(found) == 0
    turns.cancel("b")
    assert next(found) == 1
    turns.cancel("a")
    assert list(found) == [] and made == [0, 1]
    assert list(turns.take("a", make())) == [] and made == [0, 1]  # before its turn
    assert list(turns.take("c", make())) == [0, 1, 2, 3, 4]


def test_an_image_that_is_made_while_it_is_cancelled_is_not_shown():
    turns = Turns()
    assert list(turns.take("a", (turns.cancel("a") or number for number in range(3)))) == []
    assert list(turns.take("b", iter(range(2)))) == [0, 1]


def test_who_waits_can_cancel_and_one_image_is_made_at_a_time():
    turns, begun, end = Turns(), threading.Event(), threading.Event()

    def make():
        begun.set()
        end.wait()
        yield 0

    results: dict[str, list] = {}
    threads = {
        name: threading.Thread(
            target=lambda name=name, made=made: results.update({name: list(turns.take(name, made))})
        )
        for name, made in (("a", make()), ("b", iter(range(3))), ("c", iter(range(3))))
    }
    threads["a"].start()
    begun.wait()
    threads["b"].start()
    threads["c"].start()
    turns.cancel("b")
    threads["b"].join()
    assert results == {"b": []}  # a has not ended, c waits
    end.set()
    threads["a"].join()
    threads["c"].join()
    assert results == {"a": [0], "b": [], "c": [0, 1, 2]}


def test_who_leaves_does_not_keep_the_model():
    turns = Turns()
    left = turns.take("a", iter(range(3)))
    assert next(left) == 0  # and never again
    assert list(turns.take("b", iter(range(2)))) == [0, 1]


def test_errors_reach_the_page_and_do_not_keep_the_model():
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        list(turns.take("a", (1 // number for number in (1, 0))))
    assert list(turns.take("b", iter(range(2)))) == [0, 1]


def test_no_more_than_some_are_remembered(monkeypatch):
    monkeypatch.setattr(turns_lib, "REMEMBERED", 3)
    turns = Turns()
    for name in "abcde":
        turns.cancel(name)
    taken = {name: list(turns.take(name, iter([0]))) for name in "abcde"}
    assert taken == {"a": [0], "b": [0], "c": [], "d": [], "e": []}
