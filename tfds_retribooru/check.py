"""Proves that nothing leaks between the splits of a built data set.

python -m tfds_retribooru.check ~/tensorflow_datasets/retribooru/384/1.2.0

It reads the records, and of what the build noted about them the links and hashes in variants.jsonl
only. Looked for, and listed if found: an id, an image (by its pixels), a variant (see
`tfds_retribooru.variants`), a `similar` pair or an outfit (connected by `similar` pairs) that is in
two splits; a character of `test` (or `test_...`) elsewhere; a character of `validation` that
is not in `train` where others are: they are all known (`retribooru`) or all unseen (`avatars`).
The exit status is 1 if there is anything.
"""

import argparse
import dataclasses
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from scipy import sparse
from scipy.sparse import csgraph

from tfds_retribooru import array_record, images, variants
from tfds_retribooru.building import splits
from tfds_retribooru.building.records import Record
from tfds_retribooru.building.stored import Stored
from tfds_retribooru.local_paths import local_path
from tfds_retribooru.threads import map_in_order

PRINTED = 10  # findings of a kind that are printed


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is compared of a record.

    Attributes:
        split: its name.
        id: of the record.
        character: its name.
        similar: ids.
        image: digest of its pixels.
    """

    split: str
    id: str
    character: str
    similar: tuple[str, ...]
    image: bytes


def entries(builder: tfds.core.DatasetBuilder) -> Iterable[Entry]:
    """Yields the records of all splits; images are decoded on all cores."""
    for split, info in builder.info.splits.items():
        source = builder.as_data_source(split=split)
        read = map_in_order(source.__getitem__, range(len(source)))
        for record in tqdm.tqdm(read, total=info.num_examples, desc=split, leave=False):
            yield Entry(
                split,
                record["id"].decode(),
                record["character"].decode(),
                tuple(name.decode() for name in record["similar"]),
                images.digest(record["image"]),
            )


def leaks(
    found: Sequence[Entry],
    keys: Mapping[str, str] = MappingProxyType({}),
    hashes: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, list[str]]:
    """Returns what is looked for -> where it was found; empty lists are the proof.

    Args:
        found: all records.
        keys, hashes: that tell variants, of `variants.read`.
    """
    split_of = {entry.id: entry.split for entry in found}
    names: dict[str, set[str]] = defaultdict(set)
    for entry in found:
        names[entry.split].add(entry.character)
    unseen = names["validation"] - names["train"]
    pairs = [(entry, link) for entry in found for link in entry.similar if link in split_of]
    return {
        "ids in two splits": _shared((entry.id, entry.split) for entry in found),
        "pictures in two splits": _shared_images(found),
        "variants in two splits": list(_shared_variants(found, keys, hashes)),
        "similar pairs across splits": [
            f"{entry.id} ({entry.split}) names {link} ({split_of[link]})"
            for entry, link in pairs
            if split_of[link] != entry.split
        ],
        "outfits across splits": _shared(_outfits(found)),
        "characters of test elsewhere": sorted(
            {
                name
                for split in names
                if split.startswith("test")
                for name in names[split]
                if any(name in names[other] for other in names if other != split)
            }
        ),
        "characters of validation not in train": (
            sorted(unseen) if unseen != names["validation"] else []
        ),
    }


def _shared(pairs: Iterable[tuple[str, str]]) -> list[str]:
    splits = defaultdict(set)
    for name, split in pairs:
        splits[name].add(split)
    return [f"{name}: {', '.join(sorted(s))}" for name, s in splits.items() if len(s) > 1]


def _shared_images(found: Sequence[Entry]) -> list[str]:
    groups = defaultdict(list)
    for entry in found:
        groups[entry.image].append(entry)
    return [
        ", ".join(f"{entry.id} ({entry.split})" for entry in group)
        for group in groups.values()
        if len({entry.split for entry in group}) > 1
    ]


def _shared_variants(
    found: Sequence[Entry], keys: Mapping[str, str], hashes: Mapping[str, bytes]
) -> Iterable[str]:
    kept = Stored(keys)
    known = [entry for entry in found if entry.id in hashes]
    for entry in sorted(known, key=lambda e: splits.SPLITS.index(e.split)):
        record, hashed = Record(entry.id, entry.character), hashes[entry.id]
        if place := kept.variant(entry.split, record, hashed):
            yield f"{entry.id} ({entry.split}): {place}"
        kept.add(entry.split, record, digest=entry.image, hashed=hashed)


def _outfits(found: Sequence[Entry]) -> Iterable[tuple[str, str]]:
    """Yields (number and an id of the outfit, split) of every record, over all splits at once."""
    position = {entry.id: i for i, entry in enumerate(found)}
    links = [
        (i, position[link])
        for i, entry in enumerate(found)
        for link in entry.similar
        if link in position
    ]
    rows, columns = np.array(links, np.int64).reshape(-1, 2).T
    shape = (len(found), len(found))
    graph = sparse.coo_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)
    labels = csgraph.connected_components(graph, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    for label, entry in zip(labels, found, strict=True):
        yield f"outfit {label}, of {found[first[label]].id}", entry.split


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=local_path, help="of the version, with its records")
    try:
        builder = array_record.builder_of(parser.parse_args(arguments).directory)
        found = list(entries(builder))
    except FileNotFoundError as error:
        parser.error(str(error))
    except (OSError, RuntimeError) as error:  # the library for records raises the latter
        parser.error(f"the records cannot be read ({error}): build the data set again")
    results = leaks(found, *variants.read(builder.data_path))
    characters = len({entry.character for entry in found})
    print(
        f"{len(found):,} records of {characters:,} characters in {len(builder.info.splits)} splits"
    )
    for what, where in results.items():
        print(f"{len(where):>8,}  {what}")
        for line in where[:PRINTED]:
            print(f"{'':>10}{line}")
    bad = any(results.values())
    print("There are leaks." if bad else "Nothing crosses a split.")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
