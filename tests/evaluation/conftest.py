"""Fixtures of the evaluation's tests."""

import pytest

from tests.helpers.evaluation_world import ReadingVQA, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def vqa():
    return ReadingVQA()
