"""Settings that cannot work are refused with their names."""

import pytest

from configs import composition
from rbjax.experiment import config_checks
from tests.helpers import tiny_run


@pytest.fixture
def config():
    return tiny_run.config("").copy_and_resolve_references()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.faces": 0, "data.clothes": 0}, "config.data.faces=0 .* set one of them"),
        ({"data.faces": -1}, "config.data.faces=-1"),
        ({"data.tasks.composition": 0.0}, "config.data.tasks=.* not all 0"),
        ({"data.tasks.same_outfit": -1.0}, "config.data.tasks="),
        ({"data.drop_both": 0.95}, "drop_both=0.95 cannot be rates"),
        ({"data.drop_prompt": 0.0}, "drop_prompt=0.0, .* at most the smaller"),
        ({"data.drop_prompt": 0.96, "data.drop_both": 0.01}, "drop_prompt=0.96"),
        ({"data.drop_prompt": 1.1}, "drop_prompt=1.1"),
        ({"data.drop_rates": "sum"}, "drop_rates='sum': use 'total' or 'apart'"),
        ({"data.prompt_tags": "some"}, "config.data.prompt_tags='some': use 'free' or 'all'"),
        ({"data.crop_jitter": 0.5}, "config.data.crop_jitter=0.5: .* below 0.5"),
        ({"data.drop_tags": 1.0}, "config.data.drop_tags=1.0: .* below 1"),
        ({"data.flip_references": 50.0}, "config.data.flip_references=50.0: .* from 0 to 1"),
        ({"data.blank_background": -0.1}, "config.data.blank_background=-0.1"),
        ({"train.ema_decay": 1.5}, "config.train.ema_decay=1.5"),
        ({"data.view": "whole"}, "config.data.view='whole': use 'crop' or 'in_place'"),
        ({"train.weighting": "snr"}, "config.train.weighting='snr': use 'uniform' or 'velocity'"),
        ({"total_steps": 0}, "config.total_steps=0: must be at least 1$"),
        ({"sample_every": 0}, "config.sample_every=0: .* above total_steps turns it off"),
        ({"eval.prompts": 0}, "config.eval.prompts=0"),
        ({"model.patch": 0}, "config.pretrained is empty, and config.model.patch=0 describes no"),
        ({"model.patch": -1}, "config.model.patch=-1 describes no model"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        config_checks.check(config)


def buckets(config, step: int, smallest: int, largest: int):
    config.data.update(bucket_reso_steps=step, min_bucket_reso=smallest, max_bucket_reso=largest)
    config_checks.check(config)


@pytest.mark.parametrize("sides", [(3, 6, 24), (0, 6, 24), (0, 0, 0), (12, 12, 12)])
def test_buckets_around_the_size_or_none_are_accepted(config, sides):
    buckets(config, *sides)


@pytest.mark.parametrize("sides", [(3, 0, 0), (3, 15, 24), (3, 6, 9), (3, 7, 24), (-3, 6, 24)])
def test_buckets_that_cannot_hold_the_size_are_refused(config, sides):
    with pytest.raises(ValueError, match="bucket_reso_steps=.*size=12 between them"):
        buckets(config, *sides)


def test_a_model_from_scratch_has_no_autoencoder_that_learns_nothing():
    """As the default has with --config.pretrained= --config.model.patch=6: at SD's size."""
    config = composition.get_config()
    config.pretrained, config.model.patch = "", 6
    with pytest.raises(ValueError, match="config.pretrained is empty, .* config.model.vae"):
        config_checks.check(config)


def test_unknown_task_is_refused(config):
    with config.unlocked():
        config.data.tasks.imitate = 1.0
    with pytest.raises(ValueError, match="config.data.tasks=.*imitate.*composition"):
        config_checks.check(config)
