"""Which VQA model is asked, and what is printed of it."""

import pytest

from rbjax.evaluation import evaluator
from tests.helpers import blip_folder, tiny_run

VOCABULARY = {"tags": {}, "questions": {"hair": "what hair does the person have?"}}


@pytest.fixture
def config():
    return tiny_run.config("")


def test_nothing_is_asked_where_there_are_no_questions(config, capsys):
    assert evaluator.load_vqa(config, {"tags": {}, "questions": {}}) is None
    assert "has no questions to ask" in capsys.readouterr().out


def test_a_folder_as_transformers_saves_it_is_asked_everything(config, tmp_path, capsys):
    blip_folder.make(tmp_path)
    config.eval.vqa = str(tmp_path)
    vqa = evaluator.load_vqa(config, VOCABULARY)
    assert vqa is not None and vqa.asked_at(12) is None
    text = capsys.readouterr().out
    assert text.count("every question of avatars/tiny is asked") == 1


def test_the_packaged_model_is_asked_what_it_is_reliable_for(config, capsys):
    config.data.size = 48
    vqa = evaluator.load_vqa(config, VOCABULARY)
    assert vqa is not None and "hair" in vqa.asked_at(48)
    assert not capsys.readouterr().out
