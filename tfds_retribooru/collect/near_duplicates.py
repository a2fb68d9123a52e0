"""Copies of images: equal files by md5, near copies (rescaled, recompressed) by perceptual hash.

The hash is that of `tfds_retribooru.variants`. Two images are near copies if at most DISTANCE bits
differ and they are not recoloured. Cutting the bits into DISTANCE + 1 bands, the two agree in at
least one entire band, so only images with an equal band are compared: a band has 36 bits, whose
many values keep the groups small, and equal hashes are taken together first.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tfds_retribooru.variants import BITS, SIZE, recoloured

DISTANCE = 6  # of 256 bits
_PAIRS_AT_A_TIME = 1 << 22


def first_of_equal(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Marks of each group of equal keys the entry with the least `order`: bool [N].

    Args:
        keys: [N]; empty strings are equal to nothing.
        order: [N], distinct.
    """
    by_key = np.lexsort((order, keys))
    keep = np.ones(len(keys), bool)
    keep[by_key[1:]] = keys[by_key[1:]] != keys[by_key[:-1]]
    if keys.dtype.kind in "SU":
        keep |= keys == keys.dtype.type()
    return keep


def near_copies(hashes: Sequence[bytes], ids: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Marks the images that are a near copy of one with a smaller id: bool [N].

    Args:
        hashes: [N], of `perceptual_hash`.
        ids: [N], distinct.
        distance: most bits that may differ.
    """
    order = np.argsort(ids, kind="stable")
    values = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, SIZE)[order]
    unique, first = np.unique(values, axis=0, return_index=True)  # first = the smallest id
    copies = np.ones(len(order), bool)
    copies[first] = False
    unique, first = unique[np.argsort(first)], np.sort(first)
    bits = unique[:, :BITS]
    for earlier, later in _pairs(bits, distance + 1):
        is_near = np.bitwise_count(bits[earlier] ^ bits[later]).sum(axis=1) <= distance
        pairs = np.stack([earlier, later], axis=1)[is_near & ~copies[first[later]]]
        copies[first[pairs[~recoloured(unique, pairs), 1]]] = True
    result = np.empty_like(copies)
    result[order] = copies
    return result


def bands(bits: np.ndarray, count: int) -> np.ndarray:
    """Cuts hashes uint8 [N, bytes] into numbers uint64 [N, count] of near equal numbers of bits."""
    pieces = np.array_split(np.unpackbits(bits, axis=1), count, axis=1)
    return np.stack([_number(piece) for piece in pieces], axis=1)


def _number(bits: np.ndarray) -> np.ndarray:
    """Converts bits [N, at most 64] to uint64 [N]."""
    weights = np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64)
    return (bits.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)


def _pairs(bits: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs (first < second) that agree in a band, each once, as arrays of bounded length.

    After sorting by a band, entry i is paired with i + 1, i + 2, ... while the band stays equal.
    """
    cut = bands(bits, count)
    for k, band in enumerate(cut.T):
        order = np.argsort(band, kind="stable")
        values = band[order]
        begin, step = np.arange(len(order)), 1
        while begin.size:
            begin = begin[begin + step < len(order)]
            begin = begin[values[begin] == values[begin + step]]
            for part in np.array_split(begin, len(begin) // _PAIRS_AT_A_TIME + 1):
                one, other = order[part], order[part + step]
                is_new = (cut[one, :k] != cut[other, :k]).all(axis=1)
                yield one[is_new], other[is_new]
            step += 1
