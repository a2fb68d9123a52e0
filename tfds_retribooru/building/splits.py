"""Which record is of which split: a function of names, ids and links only.

* `test`: characters whose name hashes below TEST. Training never sees them. Where that would be all
  characters (one's own, and no other), none is held out.
* `validation`: of the other characters, the outfits whose oldest id hashes below VALIDATION.
* `train`: the rest.

An outfit is a connected component of the `similar` lists within one character
(tfds_retribooru/clusters.py), so no link and no outfit crosses a split. When data is added, a
character never changes between test and the others. An outfit is named by its oldest id (the
smallest number; Danbooru counts upwards), so newer posts that join it do not move it. It may move
only where a new link joins two outfits, or an older post comes in. The outfit with a character's
oldest id always trains: a character of `validation` has been seen, in other clothes.

Two records with one image are another matter: the builder keeps the first of them that it meets,
in the order of SPLITS and then of the annotation (tfds_retribooru/building/examples.py).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from tfds_retribooru import clusters

SPLITS = ("test", "validation", "train")  # in the order in which they are built
TEST = 0.1  # of characters
VALIDATION = 0.05  # of the other characters' outfits


def assign(
    ids: Sequence[str], characters: Sequence[str], similars: Sequence[Sequence[str]]
) -> np.ndarray:
    """Returns int8 [N]: the split of each record, an index into SPLITS.

    Args:
        ids: of the records, distinct.
        characters: of each record.
        similars: ids of each record's partners; those of other characters and unknown ones do not
            count.
    """
    if not len(ids):
        return np.zeros(0, np.int8)
    found = clusters.from_records(ids, characters, similars)
    is_test = np.array([share("character", name) < TEST for name in found.names])
    is_test &= not is_test.all()
    age = _ages(ids)
    oldest = np.minimum.reduceat(age[found.order], found.outfit_start[:-1])
    by_age = np.argsort(age)
    held_out = np.array([share("outfit", ids[by_age[i]]) < VALIDATION for i in oldest])
    first = np.minimum.reduceat(age[found.order], found.character_start[:-1])
    held_out &= oldest != first[found.character[found.order[found.outfit_start[:-1]]]]
    split = np.where(held_out[found.outfit], 1, 2)
    return np.where(is_test[found.character], 0, split).astype(np.int8)


def share(kind: str, name: str) -> float:
    """Returns a hash of the name in [0, 1), the same everywhere and always."""
    digest = hashlib.blake2b(f"{kind}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _ages(ids: Sequence[str]) -> np.ndarray:
    """Returns int64 [N]: rank of each id, numbers first and by their value, then texts."""
    order = sorted(range(len(ids)), key=lambda i: age_key(ids[i]))
    age = np.empty(len(ids), np.int64)
    age[order] = np.arange(len(ids))
    return age


def age_key(name: str) -> tuple[int, int, str]:
    """Returns what ids are sorted by: numbers by value, before texts."""
    return (0, int(name), name) if name.isdecimal() and len(name) < 19 else (1, 0, name)
