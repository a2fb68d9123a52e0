"""Fields that configurations gained, and the values that mean what was done before they existed.

A run, or a configuration of a user, that lacks one of them is completed with that value.
"""

from ml_collections import ConfigDict

ADDED = {
    "train.max_bad_updates": 50,  # before, such a run went on to its end
    "init_from": "",
    "train.decay_steps": 0,
    "train.target": "image",
    "data.crop_jitter": 0.0,
    "data.fixed_changes": False,
    "data.store_latents": False,
    "data.drop_rates": "apart",
    "data.flip_references": 0.0,
    "data.blank_background": 0.0,
    "eval.repeats": 1,
    "eval.open_characters": 0,
    "eval.variant_characters": 0,
    "eval.truth_images": 0,
    "eval.guidance_characters": 0,
    "eval.development_split": "",
    "eval.out_of_domain_split": "",
    "eval.clip": "",
    "eval.dino": "",
    "eval.face": "",
    "data.shuffle_tags": False,
    "data.drop_tags": 0.0,
    "data.keep_tags": 0,
    "data.underscores_as_spaces": False,
    "data.character_power": 1.0,
    "data.bucket_reso_steps": 0,
    "data.min_bucket_reso": 0,
    "data.max_bucket_reso": 0,
    "data.mask_bars": False,
}


def complete(config: ConfigDict) -> ConfigDict:
    """Returns the configuration with the fields that it lacks; it is copied where it lacks some."""
    present = config.to_dict()
    missing = {field: value for field, value in ADDED.items() if not _has(present, field)}
    if not missing:
        return config
    completed = ConfigDict(present)
    for field, value in missing.items():
        section, _, name = field.rpartition(".")
        (completed[section] if section else completed)[name] = value
    return completed.lock()


def _has(tree: dict, field: str) -> bool:
    section, _, name = field.rpartition(".")
    return name in (tree[section] if section else tree)
