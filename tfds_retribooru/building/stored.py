"""What a build has stored, and which pictures may not be stored beside it.

Of equal pictures the first is stored. A picture of which a variant (see `tfds_retribooru.variants`)
is in a split that was built before is left out: training would see what an evaluation asks for.
Of pictures in `test`, near copies of other characters count too, if at most COPY bits of their
hashes differ and they have its colours. Of those in `validation`, of which training knows the
characters anyway, they do not: people file one picture under several names, and would lose it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tfds_retribooru import variants
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.splits import SPLITS

TEST = SPLITS[0]
COPY = 6  # of 256 bits; of one character variants.DISTANCE is the limit
SAME_IMAGE = "the picture is that of another record"
VARIANT = "variant"  # part of a fault
LEFT_OUT = "the picture is left out: that record is in another split"


class _Place(NamedTuple):
    split: str
    id: str
    hash: bytes
    bits: int


class Stored:
    """The pictures that a build has stored; they come in the order of SPLITS."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Starts with nothing; `keys` are those of `variants.roots`."""
        self._keys = keys
        self._equal: dict[bytes, str] = {}  # id by digest
        # Of all splits but the last, after which nothing comes:
        self._linked: dict[str, _Place] = {}
        self._of_character: dict[tuple[str, str], list[_Place]] = defaultdict(list)  # of a split
        self._of_band: dict[tuple[int, bytes], list[_Place]] = defaultdict(list)  # of TEST

    def fault(self, split: str, record: Record, *, digest: bytes, hashed: bytes) -> Fault | None:
        """Returns why a picture may not be stored in a split; None if it may.

        Args:
            split: one of SPLITS.
            record: of the picture.
            digest: of the picture; equal ones have one.
            hashed: by `variants.perceptual_hash`.
        """
        if digest in self._equal:
            return record.fault(SAME_IMAGE, detail=self._equal[digest])
        if found := self.variant(split, record, hashed):
            return record.fault(LEFT_OUT, part=VARIANT, detail=found)
        return None

    def variant(self, split: str, record: Record, hashed: bytes) -> str:
        """Returns the id of the first variant in another split, and that split; "" without any."""
        place = next(self._variants(split, record, hashed), None)
        return "" if place is None else f"{place.id} ({place.split})"

    def add(self, split: str, record: Record, *, digest: bytes, hashed: bytes) -> None:
        """Notes that a picture is stored; see `fault`."""
        self._equal[digest] = record.id
        if split == SPLITS[-1]:
            return
        place = _Place(split, record.id, hashed, _number(hashed))
        self._linked.setdefault(self._keys.get(record.id, record.id), place)
        self._of_character[split, record.character].append(place)
        if split == TEST:
            for band in _bands(hashed):
                self._of_band[band].append(place)

    def _variants(self, split: str, record: Record, hashed: bytes) -> Iterator[_Place]:
        """Yields where variants of a picture are in other splits than its own."""
        place = self._linked.get(self._keys.get(record.id, record.id))
        if place is not None and place.split != split:
            yield place
        for other in SPLITS:
            if other == split:
                continue
            places = self._of_character.get((other, record.character), ())
            yield from _near(places, hashed, variants.DISTANCE)
        if split == TEST:
            return
        for band in _bands(hashed):
            yield from _near(self._of_band.get(band, ()), hashed, COPY)


def _near(places: Iterable[_Place], hashed: bytes, distance: int) -> Iterator[_Place]:
    """Yields the places of near copies: of at most `distance` bits, and not recoloured."""
    number = _number(hashed)
    near = [place for place in places if (place.bits ^ number).bit_count() <= distance]
    if not near:
        return
    values = np.frombuffer(b"".join([hashed, *(place.hash for place in near)]), np.uint8)
    pairs = np.array([(0, k) for k in range(1, len(near) + 1)], int).reshape(-1, 2)
    is_other = variants.recoloured(values.reshape(len(near) + 1, -1), pairs)
    yield from (place for place, other in zip(near, is_other, strict=True) if not other)


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashed[: variants.BITS])


def _bands(hashed: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields COPY + 1 parts of a hash; of near copies at least one is the same."""
    count, size = COPY + 1, variants.BITS
    for k in range(count):
        yield k, hashed[k * size // count : (k + 1) * size // count]
