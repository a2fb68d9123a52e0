"""Statistics, histograms and sample clusters of a built data set.

python -m tfds_retribooru.describe ~/tensorflow_datasets/retribooru/384/1.2.0 --out statistics

Prints the counts and writes them to OUT/statistics.json, the histograms to OUT/histograms.png and
a page of clusters to OUT/clusters.png: a line is a character, a frame around images an outfit.
"""

import argparse
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from tfds_retribooru import array_record, tag_kinds, vocabulary
from tfds_retribooru.building import rejections, stored
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.local_paths import local_path

LENGTHS = (0, 1, 2, 3, 4, 5)  # of `similar` that are counted separately, as in the paper
MANY = 15
TOP = 20
COUNTED = ("character", "artists", "similar", "cloths", "prompts", "has_bbox", "has_mask")
CELL = 96  # pixels of an image on the page of clusters
COLUMNS, ROWS = 12, 10
FRAMES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2")


def statistics(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """Returns the counts of all splits together, and by split; decodes no image."""
    lengths, characters, tags, cloths, artists = (Counter() for _ in range(5))
    outfits: list[int] = []
    variant_sets: list[int] = []
    splits = {}
    with_box = with_mask = 0
    for split in builder.info.splits:
        clusters = Clusters.of_split(builder.data_path, split)
        splits[split] = {
            "images": len(clusters),
            "characters": len(clusters.names),
            "outfits": len(clusters.outfit_start) - 1,
        }
        outfits += np.diff(clusters.outfit_start).tolist()
        variant_sets += clusters.variant_set_sizes.tolist()
        for record in array_record.Part(builder, split, COUNTED):
            lengths[len(record["similar"])] += 1
            characters[record["character"].decode()] += 1
            artists[record["artists"].decode()] += 1
            cloths.update(tag.decode() for tag in record["cloths"])
            tags.update(t.strip() for t in record["prompts"].decode().split(",") if t.strip())
            with_box += bool(record.get("has_bbox", True))
            with_mask += bool(record.get("has_mask", True))
    return {
        "images": sum(characters.values()),
        "characters": len(characters),
        "outfits": len(outfits),
        "artists": len(artists),
        "with_box": with_box,
        "with_mask": with_mask,
        "variant_sets": len(variant_sets),
        "variants": sum(variant_sets),
        "variants_left_out": rejections.count(builder.data_path, stored.VARIANT),
        "splits": splits,
        "similar_lengths": _lengths(lengths),
        "images_of_a_character": _summary(list(characters.values())),
        "images_of_an_outfit": _summary(outfits),
        "top_characters": dict(characters.most_common(TOP)),
        "top_tags": dict(tags.most_common(TOP)),
        "top_cloths": dict(cloths.most_common(TOP)),
        "kinds": _kinds(tags, vocabulary.read(builder.data_path)),
    }


_FREE = {"kind": "free"}  # of a tag that the vocabulary lacks


def _kinds(tags: Counter[str], words: vocabulary.Vocabulary) -> dict[str, dict[str, Any]]:
    """Returns, of each kind: how many tags are of it, how often, and the most frequent of them."""
    known, found = words["tags"], {}
    for kind in tag_kinds.KINDS:
        own = Counter({t: n for t, n in tags.items() if known.get(t, _FREE)["kind"] == kind})
        found[kind] = {"tags": len(own), "uses": own.total(), "top": dict(own.most_common(TOP))}
    return found


def _lengths(counts: Counter[int]) -> dict[str, int]:
    """Returns counts as in the paper's table: 1 to 5, and 15 or more; and those between them."""
    between = sum(n for length, n in counts.items() if max(LENGTHS) < length < MANY)
    many = sum(n for length, n in counts.items() if length >= MANY)
    exact = {str(length): counts[length] for length in LENGTHS}
    return exact | {f"{max(LENGTHS) + 1}-{MANY - 1}": between, f"{MANY}+": many}


def _summary(values: Sequence[int]) -> dict[str, float]:
    quantiles = np.percentile(values, (50, 90))
    return {
        "mean": float(np.mean(values)),
        "median": float(quantiles[0]),
        "90 %": float(quantiles[1]),
        "most": int(np.max(values)),
    }


def table(found: dict[str, Any]) -> str:
    """Returns the statistics as text."""
    lines = [
        f"{found['images']:,} images of {found['characters']:,} characters in "
        f"{found['outfits']:,} outfits by {found['artists']:,} artists; "
        f"{found['with_box']:,} with a face box, {found['with_mask']:,} with a mask"
    ]
    for split, counts in found["splits"].items():
        numbers = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        lines.append(f"  {split}: {numbers}")
    lines.append(
        f"{found['variants']:,} images in {found['variant_sets']:,} variant sets: of one, none is "
        f"another's reference; {found['variants_left_out']:,} more are left out, because one of "
        "theirs is in another split"
    )
    for name in ("similar_lengths", "images_of_a_character", "images_of_an_outfit"):
        numbers = ", ".join(f"{key}: {value:,g}" for key, value in found[name].items())
        lines.append(f"{name.replace('_', ' ')}: {numbers}")
    for name in ("top_characters", "top_tags", "top_cloths"):
        lines.append(f"{name.replace('_', ' ')}:")
        lines += [f"  {count:>8,}  {tag}" for tag, count in found[name].items()]
    lines.append("kinds of tags (a prompt names those only that no reference of it carries):")
    for kind, counts in found["kinds"].items():
        examples = ", ".join(f"{tag} {count:,}" for tag, count in counts["top"].items())
        lines.append(f"  {kind}: {counts['tags']:,} tags, {counts['uses']:,} uses: {examples}")
    return "\n".join(lines)


def histograms(found: dict[str, Any], path: pathlib.Path) -> None:
    """Draws lengths of `similar`, and the most frequent clothing tags and characters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    axes = figure.subplots(1, 3)
    lengths = found["similar_lengths"]
    bars = axes[0].bar(list(lengths), list(lengths.values()), color=FRAMES[0])
    axes[0].bar_label(bars, fmt="{:,.0f}", fontsize=8)
    axes[0].set(title="Length of similar", xlabel="ids", ylabel="images")
    axes[0].tick_params(axis="x", labelsize=8)
    for axis, name, title in (
        (axes[1], "top_cloths", "Clothing tags"),
        (axes[2], "top_characters", "Characters"),
    ):
        names = [tag if len(tag) < 28 else tag[:26] + "…" for tag in found[name]]
        places = np.arange(len(names))
        axis.barh(places, list(found[name].values()), color=FRAMES[2])
        axis.set_yticks(places, names, fontsize=8, parse_math=False)
        axis.invert_yaxis()
        axis.set(title=f"{title}, the {len(names)} most frequent", xlabel="images")
    figure.savefig(path, dpi=100)


def page(builder: tfds.core.DatasetBuilder, split: str, seed: int = 0) -> Image.Image:
    """Returns a line for each of ROWS random characters; an outfit has frames of one colour."""
    clusters = Clusters.of_split(builder.data_path, split)
    source = builder.as_data_source(split=split)
    count = len(clusters.names)
    chosen = np.random.default_rng(seed).permutation(count)[:ROWS]
    canvas = Image.new("RGB", (COLUMNS * CELL, len(chosen) * (CELL + 14)), "white")
    draw = ImageDraw.Draw(canvas)
    for row, character in enumerate(chosen):
        start, stop = clusters.character_start[character : character + 2]
        top = row * (CELL + 14)
        title = f"{clusters.names[character]}: {stop - start} images"
        draw.text((2, top), title.encode("ascii", "replace").decode(), fill="black")
        images = clusters.order[start:stop][:COLUMNS]
        outfits = np.unique(clusters.outfit[images], return_inverse=True)[1]
        for column, (image, outfit) in enumerate(zip(images, outfits, strict=True)):
            cell = _cell(source[int(image)], FRAMES[outfit % len(FRAMES)])
            canvas.paste(cell, (column * CELL, top + 13))
    return canvas


def _cell(record: dict[str, Any], colour: str) -> Image.Image:
    """Returns an image with its frame, and its face's box."""
    image = Image.fromarray(record["image"])
    image.thumbnail((CELL - 8, CELL - 8), Image.Resampling.BOX)
    if record.get("has_bbox", True):
        x, y, w, h = (float(v) for v in record["bbox"])
        corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        scaled = corners * (np.tile(image.size, 2) - 1)
        ImageDraw.Draw(image).rectangle(scaled.tolist(), outline="yellow")
    cell = Image.new("RGB", (CELL - 2, CELL - 2), colour)
    cell.paste("white", (3, 3, CELL - 5, CELL - 5))
    cell.paste(image, ((cell.width - image.width) // 2, (cell.height - image.height) // 2))
    return cell


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=local_path, help="of the version, with its records")
    parser.add_argument("--out", type=local_path, default=pathlib.Path("statistics"))
    parser.add_argument("--split", default="train", help="that the page of clusters shows")
    parser.add_argument("--seed", type=int, default=0, help="of the page of clusters")
    options = parser.parse_args(arguments)
    try:
        builder = array_record.builder_of(options.directory)
    except FileNotFoundError as error:
        parser.error(str(error))
    if options.split not in builder.info.splits:
        parser.error(f"--split={options.split}: there are {', '.join(builder.info.splits)}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out={options.out} is a file: name a folder")
    try:
        found = statistics(builder)
    except FileNotFoundError as error:
        parser.error(str(error))
    except (OSError, RuntimeError) as error:  # the library for records raises the latter
        parser.error(f"the records cannot be read ({error}): build the data set again")
    print(table(found))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "statistics.json").write_text(json.dumps(found, indent=1))
    histograms(found, options.out / "histograms.png")
    page(builder, options.split, options.seed).save(options.out / "clusters.png")
    print(f"Written to {options.out}: statistics.json, histograms.png, clusters.png")


if __name__ == "__main__":
    main()
