"""How often `config.data` drops the conditions of training's examples and changes references."""

from ml_collections import ConfigDict


def drop_totals(data: ConfigDict) -> tuple[float, float, float]:
    """Returns the rates of examples without prompt, without references, and without either.

    The first two count the third. With `drop_rates` "apart" the configuration names them without.

    Args:
        data: the experiment's `data` section.
    """
    apart = 0.0 if data.drop_rates == "total" else data.drop_both
    return data.drop_prompt + apart, data.drop_references + apart, data.drop_both


def change_rates(config: ConfigDict) -> dict[str, float]:
    """Returns how `config.data` changes training's references, see `crops.draw_change`."""
    c = config
    return {"jitter": c.crop_jitter, "flip": c.flip_references, "blank": c.blank_background}


def changing_fields(config: ConfigDict) -> list[str]:
    """Returns the fields of `config.data` by which training's crops differ from the boxes."""
    names = [name for name in ("crop_jitter", "flip_references") if config[name]]
    return names + ["blank_background"] * (config.blank_background not in (0, 1))


def varies_prompts(config: ConfigDict) -> bool:
    """Returns whether `config.data` makes new prompts in each update."""
    return bool(config.shuffle_tags or config.drop_tags)


def live_fields(config: ConfigDict) -> list[str]:
    """Returns the fields of `config.data` for which references are encoded in each update."""
    return [] if config.fixed_changes else changing_fields(config)
