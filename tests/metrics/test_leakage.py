"""Leakage: closed forms."""

import math

from rbjax.metrics.leakage import chance, leakage

PROMPT = {"eyes": "wide", "mouth": "smile", "background": "blue"}
REFERENCES = {"eyes": {"closed", "wink"}, "mouth": {"frown"}, "background": {"red"}}


def test_obedience_leaks_nothing():
    assert leakage(PROMPT, PROMPT, REFERENCES) == 0


def test_copying_any_reference_leaks_everything():
    copied = {"eyes": "wink", "mouth": "frown", "background": "red"}
    assert leakage(copied, PROMPT, REFERENCES) == 1


def test_wrong_values_of_its_own_are_no_leak():
    generated = {"eyes": "dizzy", "mouth": "frown", "background": "green"}
    assert leakage(generated, PROMPT, REFERENCES) == 1 / 3


def test_attributes_that_tell_nothing_do_not_count():
    same = {"eyes": {"wide"}, "mouth": {"frown"}}
    assert leakage({"eyes": "wide", "mouth": "frown", "background": "red"}, PROMPT, same) == 1
    assert math.isnan(leakage({"eyes": "wide"}, PROMPT, same))


def test_an_answer_that_is_no_word_does_not_count():
    assert leakage({**PROMPT, "mouth": "frown", "eyes": ""}, PROMPT, REFERENCES) == 1 / 2
    assert math.isnan(leakage(dict.fromkeys(PROMPT, ""), PROMPT, REFERENCES))


def test_chance_is_the_leakage_into_images_of_other_subjects():
    others = [{"mouth": "frown"}, {"mouth": "pout"}, {"mouth": ""}, {"hair": "bald"}]
    assert chance(others, PROMPT, REFERENCES) == 1 / 2
    assert math.isnan(chance([], PROMPT, REFERENCES))
