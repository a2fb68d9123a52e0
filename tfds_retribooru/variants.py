"""Variant sets: one drawing with little changed, which tells everything about its variants.

Pictures are of one set if links of their metadata (parent and children) connect them, or if they
are of one character and near copies: of `perceptual_hash`, at most DISTANCE bits differ, and they
are not `recoloured`. Pictures of one set are never references of each other. A data set keeps what
tells the sets in `variants.jsonl`; `clusters` reads it.
"""

import json
import pathlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image
from scipy import fft, sparse
from scipy.sparse import csgraph

SIDE = 16  # of a hash, in bits
BITS = SIDE * SIDE // 8  # bytes of a hash that hold them; those of the colours follow
_CELLS = 6  # of a side, whose colours a hash has: Cb and Cr, a byte each
SIZE = BITS + 2 * _CELLS**2  # bytes of a hash
# Of 256 bits. Of drawings whose mouth or eyes were painted over, 95 % and 85 % are as near; of the
# pictures of a character in one outfit (LPC's sprites, any pose) 0.4 % are.
DISTANCE = 20
NAME = "variants.jsonl"
_CHANGE = 8  # of 255, by which a cell's colour may change in an encoding or by a smaller retouch
_RECOLOURED = 1 / 16  # of the cells; of pictures with another mouth or eyes, fewer change
_STRENGTH = (0.5, 2)  # times which all colours may be stronger
_FRAME = 1 / 4  # of the cells beside the figure: if more change, background or grading did
Name = TypeVar("Name", int, str)
_SEEN = 4 * SIDE  # pixels of a side that the hash sees
_PAIRS = 1 << 16  # pairs whose colours are compared at a time
_ROWS = 512  # hashes that are compared with all others at a time


def perceptual_hash(image: Image.Image) -> bytes:
    """Returns SIZE bytes that change little when an image is rescaled, recompressed or retouched.

    The first BITS are imagehash's `phash` with 256 bits, of a large image that was reduced by areas
    before; then come the colours of _CELLS x _CELLS parts, which the former do not see.
    """
    factor = max(1, 2 * min(image.size) // (3 * _SEEN))
    grey = image.convert("L").reduce(factor)  # quicker than the filter
    box = (0, 0, image.width / factor, image.height / factor)
    grey = grey.resize((_SEEN, _SEEN), Image.Resampling.LANCZOS, box)
    lowest = fft.dctn(np.asarray(grey, float))[:SIDE, :SIDE]
    coloured = image if image.mode == "RGB" else image.convert("RGB")
    small = coloured.reduce(factor).resize((_CELLS, _CELLS), Image.Resampling.BOX)
    colours = np.asarray(small.convert("YCbCr"))[..., 1:]
    return np.packbits(lowest > np.median(lowest)).tobytes() + colours.tobytes()


def recoloured(hashes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Tells near copies in other colours, as of one template, from retouched ones: bool [K].

    All colours may be stronger or weaker. Where the frame around the figure (the upper row, and the
    upper half of both sides) changed too, background or grading may be all that did; where one of
    the two has no colour, nothing is told.

    Args:
        hashes: of `perceptual_hash`, uint8 [N, SIZE].
        pairs: positions of two hashes each, int [K, 2].
    """
    parts = np.array_split(pairs, len(pairs) // _PAIRS + 1)
    return np.concatenate([_recoloured(*hashes[part.T]) for part in parts])


def _recoloured(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    shape = (-1, _CELLS, _CELLS, 2)
    one, other = (
        part[:, BITS:].reshape(shape).astype(np.float32) - 128 for part in (hashes, others)
    )
    norms = [np.sqrt(np.square(part).sum((1, 2, 3), keepdims=True)) for part in (one, other)]
    strength = np.sqrt(np.clip(norms[1] / np.maximum(norms[0], 1), *_STRENGTH))
    changed = np.any(np.abs(one - other) > _CHANGE, axis=-1)  # [N, y, x]
    in_hue = np.any(np.abs(one * strength - other / strength) > _CHANGE, axis=-1)
    frame = np.zeros((_CELLS, _CELLS), bool)
    frame[0] = frame[: _CELLS // 2, [0, -1]] = True
    has_colour = [np.any(np.abs(part) > _CHANGE, axis=(1, 2, 3)) for part in (one, other)]
    is_graded = changed[:, frame].mean(1) > _FRAME
    is_changed = [part.mean((1, 2)) > _RECOLOURED for part in (changed, in_hue)]
    return np.logical_and.reduce([*is_changed, ~is_graded, *has_colour])


def roots(links: Iterable[Sequence[Name]]) -> dict[Name, Name]:
    """Returns, for each name in links, one name of all that are connected with it: the least."""
    number: dict[Name, int] = {}
    pairs = [[number.setdefault(name, len(number)) for name in link] for link in links]
    component = _components(len(number), np.array(pairs, int).reshape(-1, 2))
    least: dict[int, Name] = {}
    for name, k in number.items():
        least[component[k]] = min(name, least.get(component[k], name))
    return {name: least[component[k]] for name, k in number.items()}


def sets(keys: Sequence[Hashable], hashes: Sequence[bytes | None]) -> np.ndarray:
    """Returns the set of each picture of one character: the first of it, int [N].

    Args:
        keys: pictures of one key are of one set.
        hashes: of the pictures; None where they are not compared.
    """
    if len(set(keys)) == len(keys) and not any(hashes):  # as most, in a collection
        return np.arange(len(keys))
    first: dict[Hashable, int] = {}
    pairs = [np.array([[first.setdefault(key, k), k] for k, key in enumerate(keys)], int)]
    hashed = np.array([k for k, value in enumerate(hashes) if value is not None], int)
    pairs += [hashed[near] for near in _near([value for value in hashes if value is not None])]
    component = _components(len(keys), np.concatenate(pairs).reshape(-1, 2))
    return np.unique(component, return_index=True)[1][component]


def parents(ids: Sequence[int], of: np.ndarray, kept: Sequence[bool]) -> list[int | None]:
    """Returns of each kept picture the least kept id of its set, None if that is its own.

    Args:
        ids: of the pictures.
        of: their sets, as `sets` returns them.
        kept: whether they are.
    """
    least: dict[int, int] = {}
    for name, k, is_kept in zip(ids, of.tolist(), kept, strict=True):
        if is_kept:
            least[k] = min(name, least.get(k, name))
    pairs = zip(ids, of.tolist(), strict=True)
    return [None if least.get(k, name) == name else least[k] for name, k in pairs]


def append(folder: pathlib.Path, name: str, relatives: Sequence[str], hashed: bytes | None) -> None:
    """Writes a line about a picture that is stored."""
    line = {"id": name, "relatives": list(relatives), "hash": hashed and hashed.hex()}
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(folder: pathlib.Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Reads what `append` wrote: (key of each picture with relatives, hash by id).

    Both are empty for a data set that was built before there was such a file.
    """
    path = folder / NAME
    if not path.exists():
        return {}, {}
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    hashes = {line["id"]: _from_hex(line["hash"]) for line in lines if line["hash"]}
    return roots((line["id"], name) for line in lines for name in line["relatives"]), hashes


def _from_hex(text: str) -> bytes:
    """Reads a hash; one of an older version, which has no colours, gets those of a grey picture."""
    return bytes.fromhex(text).ljust(SIZE, b"\x80")


def of_split(
    ids: Sequence[str],
    characters: np.ndarray,
    keys: Mapping[str, str],
    hashes: Mapping[str, bytes],
) -> np.ndarray:
    """Returns the set of every picture: the first position of it, int32 [N].

    Args:
        ids: of the pictures.
        characters: of each, int [N].
        keys, hashes: of `read`; ids may be missing.
    """
    found = np.arange(len(ids), dtype=np.int32)
    order = np.argsort(characters, kind="stable")
    if not (keys or hashes) or not len(ids):
        return found
    for group in np.split(order, np.flatnonzero(np.diff(characters[order])) + 1):
        names = [ids[k] for k in group]
        known = [keys.get(name, name) for name in names]
        found[group] = group[sets(known, [hashes.get(name) for name in names])]
    return found


def _near(hashes: Sequence[bytes]) -> list[np.ndarray]:
    """Returns pairs of near hashes that connect all that are near, int [K, 2], in some parts."""
    values = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, SIZE)
    bits = np.ascontiguousarray(values[:, :BITS]).view(np.uint64)
    found = [np.zeros((0, 2), int)]
    of = np.arange(len(bits))  # what the pairs found so far connect
    for start in range(0, len(bits), _ROWS):
        rows, rest = bits[start : start + _ROWS], bits[start:]
        differing = sum(
            np.bitwise_count(rows[:, None, k] ^ rest[None, :, k]).astype(np.uint16)
            for k in range(bits.shape[1])
        )
        pairs = np.argwhere(differing <= DISTANCE) + start
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        for part in np.array_split(pairs, len(pairs) // _PAIRS + 1):
            apart = part[of[part[:, 0]] != of[part[:, 1]]]
            found.append(apart[~recoloured(values, apart)])
            if len(found[-1]):
                of = _components(len(bits), np.concatenate(found))
    return found


def _components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Returns the connected component of each of `count` things, by pairs int [K, 2]."""
    ones = np.ones(len(pairs), bool)
    graph = sparse.csr_array((ones, tuple(pairs.T)), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1]
