"""Settings that do not fit the devices, the sampler or the data set are refused before any work."""

import pytest

from rbjax.experiment import setup as setup_lib
from rbjax.text.tokenizer import word_tokenizer
from tests.helpers import tiny_run


@pytest.fixture
def config():
    return tiny_run.config("").copy_and_resolve_references()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mesh.data": 8, "batch_size": 12}, "config.batch_size=12"),
        ({"mesh.data": 8, "eval.batch_size": 3}, "config.eval.batch_size=3"),
        (
            {"mesh.data": 8, "train.accumulate": 3},
            "config.batch_size=8 .* 8 x train.accumulate = 24",
        ),
        ({"train.accumulate": 0}, "config.train.accumulate=0"),
        ({"sampling.method": "magic"}, "magic"),
        ({"data_dir": "/nowhere"}, "config.data_dir='/nowhere' does not exist"),
    ],
)
def test_settings_are_refused_before_data_is_built(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        setup_lib.setup(setup_lib.resolve(config))


def test_a_run_that_goes_on_reads_with_its_own_words(config, monkeypatch):
    own, others = (word_tokenizer({"tags": {tag: {}}}) for tag in ("Red hair", "smile"))
    monkeypatch.setattr(setup_lib.dataset_lib, "prepare", lambda name, folder: None)
    monkeypatch.setattr(setup_lib.dataset_lib, "check_split", lambda builder, split: None)
    monkeypatch.setattr(setup_lib.dataset_lib, "word_tokenizer", lambda builder, **given: others)
    resolved = setup_lib.resolve(config)
    assert setup_lib.setup(resolved).tokenizer is others
    assert setup_lib.setup(resolved, own).tokenizer is own


@pytest.mark.parametrize("dtype, warnings", [("float32", 0), ("bfloat16", 1)])
def test_bfloat16_on_a_cpu_is_warned_of(config, monkeypatch, dtype, warnings):
    said = []
    monkeypatch.setattr(setup_lib.logging, "warning", lambda text, *values: said.append(text))
    config.model.unet.dtype = dtype
    setup_lib._warn_of_bfloat16(config)
    assert len([text for text in said if "bfloat16 on CPUs" in text]) == warnings
