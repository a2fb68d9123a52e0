"""Writes synthetic Danbooru metadata, to measure the collection with any number of posts.

    python -m scripts.benchmarks.synthetic_danbooru --posts 600000 --out meta/

Imitated are: characters of 1 to 3,300 posts (a power law), outfits of such sizes that `similar`
lists are about as long as the paper's, clothing and other tags with Zipf frequencies, outfits that
are variations of another, tags that are missing, posts for every filter, both dialects (by turns, a
file each). `truth.npz` beside the files holds id, character and outfit of every post. Shares whose
source is not the paper are guesses. Every number is a function of the seed.
"""

import argparse
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from tfds_retribooru.collect import filters

LARGEST = 3300  # posts of a character
# Share of images by the length of their `similar` list (paper); 6 to 14 is what the rest of 116K
# leaves. Images without a partner are not in the paper's data: SINGLE of all is a guess.
LIST_SHARES = {1: 65_594, 2: 19_636, 3: 9_125, 4: 5_227, 5: 3_434, 9: 8_752, 24: 4_232}
SINGLE = 0.3
CLOTHES = (3, 10)  # tags of an outfit, least and most
OTHERS = 18  # other general tags of a post
VARIATION = 0.3  # share of outfits that keep half the tags of the character's outfit before
MISSING = 0.2  # share of an outfit's tags that a post lacks
FIRST = "skirt shirt dress long_sleeves thighhighs hat gloves jacket school_uniform boots".split()
RATES = {
    "gone": 0.08,
    "rating": 0.3,
    "crowd": 0.25,
    "second_character": 0.05,
    "no_artist": 0.03,
    "copy": 0.01,
}


def tag_names() -> tuple[list[str], list[str]]:
    """Returns clothing tags, most frequent first (the order is ours), and other tags."""
    known = {tag.replace(" ", "_") for tag in filters.read_vocabulary()}
    clothing = FIRST + sorted(known - set(FIRST), key=lambda tag: (len(tag), tag))
    return clothing, [f"general_tag_{k}" for k in range(5000)]


def zipf(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draws ranks below `count`, rank k with a frequency like 1 / (k + 1): int16."""
    edges = np.cumsum(1 / np.arange(1, count + 1))
    return np.searchsorted(edges / edges[-1], rng.random(shape)).astype(np.int16)


def characters(rng: np.random.Generator, posts: int, largest: int) -> np.ndarray:
    """Draws the character of each post, int32 [posts]; the first has `largest`, others follow."""
    sizes = np.minimum(LARGEST, rng.random(posts) ** (-1 / 0.9)).astype(np.int64)
    sizes[0] = min(largest, posts)
    return np.searchsorted(np.cumsum(sizes), np.arange(posts), side="right").astype(np.int32)


def outfits(rng: np.random.Generator, character: np.ndarray) -> np.ndarray:
    """Draws the outfit of each post, int32 [posts], numbered from 0; one character each."""
    sizes = np.array([1, *(length + 1 for length in LIST_SHARES)])
    shares = np.array([*LIST_SHARES.values()], float)
    shares = np.concatenate([[SINGLE], (1 - SINGLE) * shares / shares.sum()]) / sizes
    drawn = rng.choice(sizes, len(character), p=shares / shares.sum())
    number = np.searchsorted(np.cumsum(drawn), np.arange(len(character)), side="right")
    begins = np.diff(number, prepend=-1).astype(bool) | np.diff(character, prepend=-1).astype(bool)
    return (np.cumsum(begins) - 1).astype(np.int32)


def clothes(
    rng: np.random.Generator, character: np.ndarray, outfit: np.ndarray, *, count: int
) -> np.ndarray:
    """Draws the clothing tags of each outfit, int16 [outfits, 10], -1 for none.

    Args:
        rng: source of the draws.
        character, outfit: int32 [posts], of each post.
        count: number of clothing tags there are.
    """
    first = np.flatnonzero(np.diff(outfit, prepend=-1))
    tags = zipf(rng, count, (len(first), CLOTHES[1]))
    owner = character[first]
    sizes = rng.integers(CLOTHES[0], CLOTHES[1] + 1, len(first))
    varies = np.flatnonzero(
        (np.diff(owner, prepend=-1) == 0) & (rng.random(len(first)) < VARIATION)
    )
    kept = np.arange(CLOTHES[1]) < sizes[varies, None] // 2
    tags[varies] = np.where(kept, tags[varies - 1], tags[varies])
    tags[np.arange(CLOTHES[1]) >= sizes[:, None]] = -1
    return tags


def write(
    out: pathlib.Path, posts: int, *, files: int, largest: int = LARGEST, seed: int = 0
) -> None:
    """Writes `files` files of metadata, and truth.npz."""
    rng = np.random.default_rng(seed)
    names = tag_names()
    character = characters(rng, posts, largest)
    outfit = outfits(rng, character)
    worn = clothes(rng, character, outfit, count=len(names[0]))
    order = rng.permutation(posts)
    out.mkdir(parents=True)
    np.savez(out / "truth.npz", id=order + 1, character=character, outfit=outfit)
    places = np.empty(posts, np.int64)
    places[order] = np.arange(posts)
    for number, part in enumerate(np.array_split(places, files)):
        dialect = _after if number % 2 else _until_2021
        with open(out / f"posts-{number:04d}.json", "w") as file:
            for start in range(0, len(part), 10_000):
                block = part[start : start + 10_000]
                posts_tags = _tags(rng, character[block], worn[outfit[block]], names=names)
                first_id = int(order[block[0]]) + 1
                for k, (on, tags) in enumerate(posts_tags, first_id):
                    tags["artist"] = [] if "no_artist" in on else [f"artist_{k % 9973}"]
                    file.write(json.dumps(dialect(_common(k, on), on, tags)) + "\n")


def _tags(
    rng: np.random.Generator,
    character: np.ndarray,
    worn: np.ndarray,
    *,
    names: tuple[list[str], list[str]],
) -> Iterator[tuple[set[str], dict[str, list[str]]]]:
    """Yields of consecutive posts (which of RATES apply, category -> tags).

    Args:
        rng: source of the draws.
        character: [B] of each post.
        worn: int16 [B, 10], clothing of each post before tags are missing.
        names: clothing tags and other tags.
    """
    clothing, others = names
    size = len(character)
    worn = np.where(rng.random(worn.shape) < MISSING, -1, worn)
    free = zipf(rng, len(others), (size, OTHERS))
    flags = {name: rng.random(size) < rate for name, rate in RATES.items()}
    for i in range(size):
        on = {name for name, values in flags.items() if values[i]}
        general = ["1girl", "multiple_girls" if "crowd" in on else "solo"]
        general += dict.fromkeys(clothing[k] for k in worn[i] if k >= 0)
        general += dict.fromkeys(others[k] for k in free[i])
        characters = [f"character_{character[i]}"] + ["passer-by"] * ("second_character" in on)
        yield on, {"general": general, "artist": [], "character": characters}


def _common(name: int, on: set[str]) -> dict[str, object]:
    md5 = f"{name - ('copy' in on):032x}"
    return {"id": name, "created_at": "2019-01-01 00:00:00 UTC", "md5": md5, "file_ext": "jpg"}


def _until_2021(post: dict, on: set[str], tags: dict[str, list[str]]) -> dict[str, object]:
    categories = {"general": "0", "artist": "1", "character": "4"}
    return {
        **(post | {"id": str(post["id"])}),
        "rating": "q" if "rating" in on else "s",
        "image_width": "800",
        "image_height": "1000",
        "is_deleted": "gone" in on,
        "is_banned": False,
        "tags": [
            {"id": "1", "name": name, "category": categories[kind]}
            for kind, group in tags.items()
            for name in group
        ],
    }


def _after(post: dict, on: set[str], tags: dict[str, list[str]]) -> dict[str, object]:
    return {
        **post,
        "rating": "s" if "rating" in on else "g",
        "image_width": 800,
        "image_height": 1000,
        "is_deleted": "gone" in on,
        "is_banned": False,
        **{f"tag_string_{kind}": " ".join(group) for kind, group in tags.items()},
    }


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--posts", type=int, default=60_000)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder; must not exist")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--largest", type=int, default=LARGEST, help="posts of one character")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write(args.out, args.posts, files=args.files, largest=args.largest, seed=args.seed)


if __name__ == "__main__":
    main()
