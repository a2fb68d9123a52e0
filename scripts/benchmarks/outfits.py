"""Measures the outfit rule where the truth is known: pairwise precision and recall.

    python -m scripts.benchmarks.outfits --data_dir ~/tensorflow_datasets

`avatars` is the test split of avatars/centered, characters that the VQA model has not seen.
`avatars, alike` are its outfits put together anew, three to a character, so that a character's
outfits share the garment and differ in colour only. `synthetic` is the metadata of
synthetic_danbooru.py, up to ten tags an outfit, of which a third vary another one of the character;
it has no images. Every clothing tag is missing with a probability; answers are those of the
packaged BLIP about the images.
"""

import argparse
import pathlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

import tfds_retribooru  # noqa: F401  registers avatars
from rbjax.vqa import clothes
from rbjax.vqa.model import PACKAGED
from scripts.benchmarks import synthetic_danbooru
from tfds_retribooru import json_stream
from tfds_retribooru.collect import candidates, filters, outfits
from tfds_retribooru.collect.outfits import NO_OUTFIT, Rule

Image_ = tuple[list[str], dict[str, str], object]  # clothing tags, answers, true outfit
RULES = {
    "default": Rule(),
    "strict": Rule(lacking=0.15, min_facts=5),
    "lax": Rule(extra=0.34, lacking=0.34),
}


def avatars(data_dir: str | None) -> list[list[Image_]]:
    """Returns the characters of the test split."""
    source = tfds.builder("avatars/centered", data_dir=data_dir).as_data_source("test")
    vqa = clothes.load(PACKAGED)
    people: dict[bytes, list[Image_]] = defaultdict(list)
    for start in range(0, len(source), 64):
        records = [source[i] for i in range(start, min(start + 64, len(source)))]
        answers = vqa([Image.fromarray(record["image"]) for record in records])
        for record, answer in zip(records, answers, strict=True):
            truth = min(record["id"], *record["similar"])
            tags = [tag.decode() for tag in record["cloths"]]
            people[record["character"]].append((tags, answer, truth))
    return list(people.values())


def alike(people: list[list[Image_]]) -> list[list[Image_]]:
    """Returns characters of three outfits of the same garment, of different colours."""
    outfit: dict[object, list[Image_]] = defaultdict(list)
    for image in (image for person in people for image in person):
        outfit[image[2]].append(image)
    garments: dict[str, dict[str, list[Image_]]] = defaultdict(dict)
    result = []
    for images in outfit.values():
        garment, color = images[0][0][:2]
        garments[garment].setdefault(color, images)
        if len(garments[garment]) == 3:
            result.append([image for part in garments.pop(garment).values() for image in part])
    return result


def synthetic(posts: int) -> list[list[Image_]]:
    """Returns the candidates of synthetic metadata; their tags are missing already."""
    criteria = filters.Criteria(filters.read_vocabulary())
    people: dict[str, list[Image_]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "meta"
        synthetic_danbooru.write(folder, posts, files=2)
        with np.load(folder / "truth.npz") as arrays:
            truth = dict(zip(arrays["id"].tolist(), arrays["outfit"].tolist(), strict=True))
        for path in sorted(folder.glob("*.json")):
            for part in json_stream.parts(path):
                for item in candidates.screen(json_stream.read_part(part), criteria):
                    if isinstance(item.result, filters.Candidate):
                        post = item.result
                        people[post.character].append((post.cloths, {}, truth[post.id]))
    return list(people.values())


def measure(
    people: Sequence[Sequence[Image_]], rule: Rule, *, missing: float, answers: bool
) -> tuple[float, float]:
    """Returns precision and recall over the pairs of images of a character.

    Args:
        people: the images of each character.
        rule: thresholds.
        missing: probability that a tag is missing.
        answers: whether the rule gets the answers.
    """
    rng = np.random.default_rng(0)
    right = found = there = 0
    for images in people:
        cloths = [[tag for tag in tags if rng.random() >= missing] for tags, _, _ in images]
        known = [answer for _, answer, _ in images] if answers else None
        assigned = outfits.assign(cloths, known, rule)
        truth = [outfit for _, _, outfit in images]
        pairs = [pair for pair in zip(assigned, truth, strict=True) if pair[0] != NO_OUTFIT]
        right += _pairs(pairs)
        found += _pairs(outfit for outfit, _ in pairs)
        there += _pairs(truth)
    return right / max(found, 1), right / there


def _pairs(labels: Iterable[object]) -> int:
    """Returns the number of pairs with equal labels."""
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="of TFDS (default: ~/tensorflow_datasets)")
    parser.add_argument("--posts", type=int, default=60_000, help="of the synthetic metadata")
    args = parser.parse_args(argv)
    people = avatars(args.data_dir)
    data = {"avatars": people, "avatars, alike": alike(people)}
    print("| data | tags missing | rule | tags alone: precision / recall | with answers |")
    print("| --- | ---: | --- | ---: | ---: |")
    for name, groups in data.items():
        for missing in (0.0, 0.2, 0.4):
            for label, rule in RULES.items():
                cells = [
                    f"{precision:.3f} / {recall:.3f}"
                    for precision, recall in (
                        measure(groups, rule, missing=missing, answers=answers)
                        for answers in (False, True)
                    )
                ]
                print(f"| {name} | {missing:.0%} | {label} | {' | '.join(cells)} |", flush=True)
    groups = synthetic(args.posts)
    for label, rule in RULES.items():
        precision, recall = measure(groups, rule, missing=0.0, answers=False)
        missing = f"{synthetic_danbooru.MISSING:.0%}"
        print(f"| synthetic | {missing} | {label} | {precision:.3f} / {recall:.3f} | |", flush=True)


if __name__ == "__main__":
    main()
