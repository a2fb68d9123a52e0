"""Checks of a configuration, before anything is computed: each error names the field."""

import operator

import jax
import numpy as np
from ml_collections import ConfigDict

from rbjax.command_line import local_path
from rbjax.data.crops import VIEWS
from rbjax.data.dataset import Split
from rbjax.data.references import TASKS
from rbjax.data.variation import drop_totals
from rbjax.diffusion.loss import WEIGHTINGS
from rbjax.models.pipeline import latent_pixels
from rbjax.parallel import mesh as mesh_lib

CHOICES = {
    "data.prompt_tags": ("free", "all"),
    "data.view": VIEWS,
    "data.drop_rates": ("total", "apart"),
    "train.weighting": WEIGHTINGS,
    "train.target": ("image", "base"),
}
PATHS = ("data_dir", "pretrained", "init_from", "eval.vqa", "eval.clip", "eval.dino", "eval.face")
RATES = ("data.flip_references", "data.blank_background", "train.final_rate", "train.ema_decay")
COUNTS = (  # fields that must be at least 1
    *("total_steps", "sample_images", "data.threads"),
    *("eval.prompts", "eval.repeats", "eval.periodic_characters", "train.max_bad_updates"),
    *(f"{name}_every" for name in ("log", "checkpoint", "sample", "eval")),
)


def check(config: ConfigDict) -> None:
    """Raises ValueError for settings that cannot work, naming the field."""
    data = config.data
    if min(data.faces, data.clothes) < 0 or (
        data.faces + data.clothes < 1 and config.eval.characters
    ):
        raise ValueError(
            f"config.data.faces={data.faces} and config.data.clothes={data.clothes}: set one of "
            "them to 1 or more. Without references (text to image) nothing can be evaluated; "
            "config.eval.characters=0 turns the evaluation off."
        )
    if config.eval.characters < 0:
        raise ValueError(f"config.eval.characters={config.eval.characters}: must be at least 0")
    unknown = set(data.tasks) - set(TASKS)
    if unknown or sum(data.tasks.values()) <= 0 or min(data.tasks.values()) < 0:
        raise ValueError(
            f"config.data.tasks={dict(data.tasks)}: give weights of at least 0, not all 0, to "
            f"{', '.join(TASKS)}."
        )
    _check_drops(data)
    if not 0 <= data.crop_jitter < 0.5:
        raise ValueError(
            f"config.data.crop_jitter={data.crop_jitter}: give a share of the box's side, from 0 "
            "to below 0.5 (where nothing of the box may be left)."
        )
    if not 0 <= data.drop_tags < 1:
        raise ValueError(
            f"config.data.drop_tags={data.drop_tags}: give a rate from 0 to below 1; whole prompts "
            "are left out by config.data.drop_prompt."
        )
    _check_buckets(data)
    check_values(config)
    if not config.pretrained and config.model.patch < 1:
        raise ValueError(
            f"config.pretrained is empty, and config.model.patch={config.model.patch} describes no "
            "model of its own: give a folder of Stable Diffusion in diffusers' format, "
            "--config.pretrained=DIR, or --config.pretrained=shipped for the small one that ships"
        )
    if not config.pretrained and config.model.get("vae"):
        raise ValueError(
            "config.pretrained is empty, and an autoencoder cannot start from scratch here: begin "
            "with composition.from_scratch, in which config.model.vae is empty (BlockDCT)"
        )
    if not config.pretrained and config.train.target == "base":
        raise ValueError(
            "config.train.target='base': config.pretrained is empty, so there is no base model to "
            "learn from. Give its folder, or --config.train.target=image"
        )


def _check_drops(data: ConfigDict) -> None:
    """Raises ValueError unless examples can be dropped at the three rates."""
    prompt, references, both = drop_totals(data)
    if 0 <= both <= min(prompt, references) and prompt + references - both <= 1 + 1e-9:
        return
    raise ValueError(
        f"config.data: drop_prompt={data.drop_prompt}, drop_references={data.drop_references}, "
        f"drop_both={data.drop_both} cannot be rates of the same examples. The first two count all "
        "examples without prompt and all without references; drop_both, those without either, is "
        "at most the smaller of the two and at least their sum minus 1."
    )


def _check_buckets(data: ConfigDict) -> None:
    """Raises ValueError for buckets that would hold no image."""
    step, smallest, largest = data.bucket_reso_steps, data.min_bucket_reso, data.max_bucket_reso
    if not step:
        return
    fits = 0 < smallest <= data.size <= largest and not smallest % step and not largest % step
    if step < 0 or not fits:
        raise ValueError(
            f"config.data.bucket_reso_steps={step}: give min_bucket_reso and max_bucket_reso (now "
            f"{smallest} and {largest}) as multiples of it, with size={data.size} between them."
        )


def check_bucket_steps(config: ConfigDict) -> None:
    """Raises ValueError where the buckets' sides are no whole latents."""
    step, factor = config.data.bucket_reso_steps, latent_pixels(config.model)
    if step % factor:
        raise ValueError(
            f"config.data.bucket_reso_steps={step}: must be a multiple of {factor}, the pixels of "
            "a latent."
        )


def check_values(config: ConfigDict) -> None:
    """Raises ValueError for a field of PATHS, CHOICES, RATES or COUNTS that has no such value."""
    for field in PATHS:
        local_path(operator.attrgetter(field)(config), f"config.{field}")
    for field, choices in CHOICES.items():
        value = operator.attrgetter(field)(config)
        if value not in choices:
            raise ValueError(f"config.{field}={value!r}: use {' or '.join(map(repr, choices))}")
    for field in RATES:
        value = operator.attrgetter(field)(config)
        if not 0 <= value <= 1:
            raise ValueError(f"config.{field}={value}: give a share, from 0 to 1")
    for field in COUNTS:
        value = operator.attrgetter(field)(config)
        if value < 1:
            hint = "; a number above total_steps turns it off, but for the last step"
            hint = hint if field.endswith("_every") else ""
            raise ValueError(f"config.{field}={value}: must be at least 1{hint}")


def check_batches(config: ConfigDict, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError where a batch does not divide over the mesh."""
    mesh_lib.check_batch(mesh, config.batch_size, parts=config.train.accumulate)
    mesh_lib.check_batch(mesh, config.eval.batch_size, field="config.eval.batch_size")


def check_tasks(data: ConfigDict, split: Split) -> None:
    """Raises ValueError for a task for which no example would have a reference."""
    clusters, reasons = split.clusters, {}
    if not len(split.clusters_with_box.order):  # then none shows clothes either
        reasons["composition"] = "has a face box, so none shows a face or clothes"
    sets = clusters.variant[clusters.order]  # variants are no references of each other
    if not _several(sets, clusters.character_start):
        reasons["same_identity"] = "shows a character that another one shows"
    if not _several(sets, clusters.outfit_start):
        reasons["same_outfit"] = "shows an outfit that another one shows"
    for task, reason in reasons.items():
        if data.tasks.get(task, 0) > 0:
            raise ValueError(
                f"config.data.tasks.{task}={data.tasks[task]}: no record of {data.dataset} "
                f"{reason}. Set it to 0 and another task to 1."
            )


def _several(sets: np.ndarray, starts: np.ndarray) -> bool:
    """Whether a range of images, of which `starts` has the ends, has more than one variant set."""
    starts = starts[:-1][np.diff(starts) > 0]
    if not len(starts):
        return False
    least, most = (of.reduceat(sets, starts) for of in (np.minimum, np.maximum))
    return bool((least < most).any())
