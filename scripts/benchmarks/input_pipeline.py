"""How fast images become a data set, and a data set becomes training examples.

python -m scripts.benchmarks.input_pipeline

Makes images like Danbooru's (JPEG and PNG, about a megapixel), and compares in turns, so that
both sides see the same machine:

* build: `retribooru/384`, beside a plain Pillow loop over the same files: open, convert, resize
  (BOX), and, in another, save as the same JPEG. By the clock, as the build works on all cores and
  the loop on one, and by processor time, which is the time on one core;
* input: examples of 1 target + 4 references, decoded, cropped and resized, by our loader, beside a
  torch DataLoader that does the same from the same encoded images, with as many workers.

Prints the median and the range of the rounds' rates, and the ratio of the medians.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

import tfds_retribooru  # noqa: F401  registers the builders
from configs import composition
from rbjax.data import crops, dataset, loader, references
from rbjax.data.image_cache import ConceptCrops
from rbjax.text import concepts as concepts_lib
from rbjax.text import tokenizer as tokenizer_lib
from tfds_retribooru import close_ups

if TYPE_CHECKING:
    import torch

SIDE = 384
AHEAD = 64  # examples that a loader prepares before they are asked for
OUTFIT = 6  # images of an outfit; a character has two


def draw(seed: int) -> Image.Image:
    """Returns an image of 0.8 to 1.4 megapixels: flat areas, lines and some noise."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(850, 1150)), int(rng.integers(950, 1250)))
    coarse = Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8))
    image = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) // 24 * 24
    noise = rng.integers(0, 6, image.shape, np.uint8)
    return Image.fromarray(image + noise)


def write(root: pathlib.Path, count: int) -> None:
    """Writes annotations and flat images; one in four is a PNG, as at Danbooru."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    lines = []
    for number in range(count):
        outfit = number // OUTFIT * OUTFIT
        others = range(outfit, min(count, outfit + OUTFIT))
        record = {
            "id": number,
            "character": f"character_{number // (2 * OUTFIT)}",
            "bbox": [0.5, 0.25, 0.3, 0.25],
            "similar": [other for other in others if other != number],
            "prompts": "1girl, solo, smile",
        }
        lines.append(json.dumps(record))
        kind, options = ("png", {}) if number % 4 == 0 else ("jpg", {"quality": 90})
        draw(number).save(root / "images" / f"{number}.{kind}", **options)
    (root / "annotations" / "all.json").write_text("\n".join(lines))


def build(manual: pathlib.Path, keep: pathlib.Path | None = None) -> None:
    """Builds the data set into a new directory, or into `keep`."""
    config = tfds.download.DownloadConfig(manual_dir=manual)
    with tempfile.TemporaryDirectory() as folder:
        builder = tfds.builder(f"retribooru/{SIDE}", data_dir=keep or folder)
        builder.download_and_prepare(download_config=config)


def pillow_loop(images: pathlib.Path, *, save: bool) -> None:
    """Opens, converts, resizes and saves, as a short script would."""
    for path in sorted(images.iterdir()):
        image = Image.open(path).convert("RGB")
        scale = SIDE / min(image.size)
        width, height = (round(n * scale) for n in image.size)
        small = image.resize((width, height), Image.Resampling.BOX)
        if save:
            small.save(io.BytesIO(), "JPEG", quality=close_ups.JPEG_QUALITY, subsampling=0)


def examples_of(data_dir: pathlib.Path, size: int) -> loader.Examples:
    """Returns our examples: composition from 2 faces and 2 clothes, without a cache."""
    split = dataset.open_split(tfds.builder(f"retribooru/{SIDE}", data_dir=data_dir), "train")
    config = composition.get_config().data
    config.update(
        faces=2, clothes=2, max_tokens=16, drop_prompt=0.0, drop_references=0.0, drop_both=0.0
    )
    config.mask_bars = config.fixed_changes = False
    config.crop_jitter = config.flip_references = 0.0
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
    concept_crops = ConceptCrops(split, size=size, view="crop", cache=False)
    return loader.Examples(split, concept_crops, tokenizer, config)


def torch_loader(
    examples: loader.Examples, batch: int, workers: int
) -> "torch.utils.data.DataLoader":
    """Returns an endless DataLoader of a map-style Dataset over the encoded images in memory."""
    import torch
    from torch.utils import data

    split, size = examples.split, examples.crops.size
    decoders = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    builder = tfds.builder_from_directory(split.directory)
    records: Any = list(builder.as_data_source(split=split.name, decoders=decoders))

    def crop(index: int, concept: int) -> np.ndarray:
        record = records[index]
        image = np.asarray(Image.open(io.BytesIO(record["image"])))
        decoded = {"image": image, "bbox": record["bbox"], "mask": None, "has_mask": False}
        return crops.crop_concept(decoded, concept, size=size, view="crop")

    class Compositions(data.Dataset):
        def __len__(self) -> int:
            return 2**31

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            rng = np.random.default_rng(index)
            target = index % len(records)
            chosen = references.choose(
                split.clusters, target, task="composition", faces=2, clothes=2, rng=rng
            )
            pairs = zip(chosen.images, chosen.concepts, strict=True)
            chosen_crops = np.stack([crop(i, c) for i, c in pairs])
            return torch.tensor(crop(target, concepts_lib.CHARACTER)), torch.tensor(chosen_crops)

    return data.DataLoader(Compositions(), batch, num_workers=workers, drop_last=True)


def rates(
    *jobs: Callable[[], None], clocks: Sequence[Callable[[], float]], rounds: int, amount: int
) -> list[list[list[float]]]:
    """Returns, for each clock, the rates of each job a second of it; the jobs take turns."""
    found: list[list[list[float]]] = [[[] for _ in jobs] for _ in clocks]
    for _ in range(rounds):
        for number, job in enumerate(jobs):
            starts = [clock() for clock in clocks]
            job()
            for clock, start, of_jobs in zip(clocks, starts, found, strict=True):
                of_jobs[number].append(amount / (clock() - start))
    return found


def table(names: list[str], found: list[list[float]], unit: str) -> str:
    """Returns a line for each; ratios are to the last."""
    base = statistics.median(found[-1])
    lines = [f"| {unit} | median | range | ratio |", "| --- | ---: | ---: | ---: |"]
    for name, values in zip(names, found, strict=True):
        middle = statistics.median(values)
        lines.append(
            f"| {name} | {middle:.1f} | {min(values):.1f} to {max(values):.1f} "
            f"| {middle / base:.2f} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=240, help="images to build from")
    parser.add_argument("--examples", type=int, default=256, help="training examples a round")
    parser.add_argument("--size", type=int, default=SIDE, help="pixels of targets and references")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=joblib.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write(root / "manual" / "retribooru", options.images)
        images = root / "manual" / "retribooru" / "images"
        bench_build(root, images, options)
        bench_input(root, options)


def take(batches: Iterator, count: int) -> None:
    """Reads `count` batches."""
    for _ in range(count):
        next(batches)


def bench_build(root: pathlib.Path, images: pathlib.Path, options: argparse.Namespace) -> None:
    """Prints the rates of the build and of the loops."""
    build(root / "manual", root)  # once, to warm up and for what follows
    by_clock, by_core = rates(
        lambda: build(root / "manual"),
        lambda: pillow_loop(images, save=True),
        lambda: pillow_loop(images, save=False),
        clocks=(time.perf_counter, time.process_time),
        rounds=options.rounds,
        amount=options.images,
    )
    names = ["build", "Pillow loop that saves", "Pillow loop that does not"]
    cores = len(os.sched_getaffinity(0))
    print(table(names, by_clock, f"images a second by the clock, {cores} cores"))
    print(table(names, by_core, "images a second and core"))


def bench_input(root: pathlib.Path, options: argparse.Namespace) -> None:
    """Prints the rates of both input pipelines."""
    examples = examples_of(root, options.size)
    batch, workers = options.batch, options.workers
    loaders = (
        loader.iterator(examples, batch_size=batch, seed=0, threads=workers),
        iter(torch_loader(examples, batch, workers)),
    )
    found: list[list[float]] = [[], []]
    for _ in range(options.rounds + 1):
        for batches, seconds in zip(loaders, found, strict=True):
            take(batches, AHEAD // batch + 1)  # what it prepared while the other one was measured
            start = time.perf_counter()
            take(batches, options.examples // batch)
            seconds.append(options.examples / (time.perf_counter() - start))
    found = [values[1:] for values in found]  # the first round warms up
    names = [f"{name}, {options.workers} workers" for name in ("our loader", "torch DataLoader")]
    print(table(names, found, f"examples a second, {options.size} px"))


if __name__ == "__main__":
    main()
