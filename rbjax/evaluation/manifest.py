"""The images of another system: a folder with a manifest, so that it can stand in the same table.

`manifest.jsonl` has one JSON object a line:

    {"id": "validation-00003", "image": "images/validation-00003.png",
     "references": [{"image": "references/17.png", "concept": "face", "box": [20, 4, 60, 60]},
                    {"image": "references/21.png", "concept": "clothes"}],
     "prompt": "solo, smile, red background", "seed": 1724}

| key | meaning |
| --- | --- |
| `id` | names the entry; no other has it |
| `image` | the image that the system made of these references and this prompt |
| `references` | one or more; `concept` is "face", "clothes" or "character", `box` (left, top, width, height in pixels) is the part that shows it; without one it is all of the image |
| `prompt` | comma-joined tags |
| `seed` | of the system's noise, a whole number; others are repeats of the case |
| `character` | optional: entries of one character are averaged before an interval is made. Without it, entries with the same references are one character |
| `target` | optional: a real image of that character and outfit |
| `tags` | optional, of a reference: comma-joined, what it shows. Without it nothing is known of what the image should take from it, and agreement with the references is not scored |

Files are relative to the manifest's folder, of any size and format. An image that is missing or
cannot be read is not an error: it is counted as unscored.
"""  # noqa: E501  rows of a table

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import images as images_lib
from rbjax.models.pixels import to_float
from rbjax.text.concepts import CONCEPTS
from tfds_retribooru import decoding

NAME = "manifest.jsonl"
MISSING = "image is missing"
UNREADABLE = "image cannot be read"
REQUIRED = {"id": str, "image": str, "references": list, "prompt": str, "seed": int}
OPTIONAL = {"character": str, "target": str}
OF_REFERENCES = {"image": str, "concept": str, "box": list, "tags": str}


@dataclasses.dataclass(frozen=True)
class Reference:
    """A reference of an entry; see the table above.

    Attributes:
        image: file, relative to the folder.
        concept: index into CONCEPTS.
        box: (left, top, width, height) in pixels; None = all.
        tags: what it shows; None = unknown.
    """

    image: str
    concept: int
    box: tuple[int, int, int, int] | None = None
    tags: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a manifest; see the table above.

    Attributes:
        id: of the entry.
        image: file, relative to the folder.
        references: of the case.
        prompt: its tags.
        seed: of the noise.
        character: "" where it is not given.
        target: file of a real image; "" where there is none.
    """

    id: str
    image: str
    references: tuple[Reference, ...]
    prompt: tuple[str, ...]
    seed: int
    character: str = ""
    target: str = ""


def read(folder: Path) -> list[Entry]:
    """Reads the manifest of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the line, the entry and what is wrong with it are named.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: a folder of images needs a manifest (--write_manifest makes one)"
        )
    entries: dict[str, Entry] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            item = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
            json.dumps(item, ensure_ascii=False).encode()  # halves of characters cannot be
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place} is not JSON: {error}") from error
        entry = _entry(item, place)
        if entry.id in entries:
            raise ValueError(f"{place}: the id {entry.id!r} was there before")
        entries[entry.id] = entry
    if not entries:
        raise ValueError(f"{path} has no entry")
    return list(entries.values())


def write(folder: Path, entries: Sequence[Entry]) -> Path:
    """Writes the manifest of a folder and returns its path."""
    path = folder / NAME
    path.write_text("".join(json.dumps(_item(entry)) + "\n" for entry in entries))
    return path


def read_images(
    folder: Path, entries: Sequence[Entry | None], size: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Reads the images of entries, in their order.

    Args:
        folder: of the manifest.
        entries: N entries; None where there is none.
        size: pixels of the square that every image is fitted into, on white.

    Returns:
        float32 [N, size, size, 3] in [-1, 1], NaN where there is no image, and number of an image
        -> why there is none.

    Raises:
        FileNotFoundError: there is no image at all.
    """
    images = np.full((len(entries), size, size, 3), np.nan, np.float32)
    faults: dict[int, str] = {}
    for number, entry in enumerate(entries):
        try:
            if entry is None:
                raise FileNotFoundError
            images[number] = read_image(folder / entry.image, size)
        except (FileNotFoundError, IsADirectoryError):
            faults[number] = MISSING
        except (OSError, decoding.Unreadable):
            faults[number] = UNREADABLE
    if all(faults.get(number) == MISSING for number in range(len(entries))):
        raise FileNotFoundError(
            f"none of the {len(entries)} images that {folder / NAME} names is there"
        )
    return images, faults


def read_image(path: Path, size: int) -> np.ndarray:
    """Reads a file, fitted into a white square: float32 [size, size, 3] in [-1, 1].

    Raises:
        OSError, decoding.Unreadable: there is none, or it cannot be read.
    """
    return to_float(images_lib.resize(decoding.decode(path.read_bytes()).image, size))


def _entry(item: Any, place: str) -> Entry:
    """Returns a line as an entry; raises as `read`."""
    name = item.get("id") if isinstance(item, Mapping) else None
    place = f"{place} (id {name!r})" if name is not None else place
    _check(item, REQUIRED, OPTIONAL, place=place)
    if not item["id"]:
        raise ValueError(f"{place}: id is empty")
    if not item["references"]:
        raise ValueError(f"{place} has no references")
    if not 0 <= item["seed"] < 2**32:
        raise ValueError(f"{place}: seed {item['seed']} is not between 0 and 2**32 - 1")
    references = tuple(
        _reference(reference, f"{place}, reference {number}")
        for number, reference in enumerate(item["references"], start=1)
    )
    files = [item["image"], item.get("target", ""), *(r.image for r in references)]
    for file in files:
        if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file:
            raise ValueError(f"{place}: {file} is not a file inside the manifest's folder")
    rest = {key: item[key] for key in OPTIONAL if key in item}
    return Entry(
        id=item["id"],
        image=item["image"],
        references=references,
        prompt=_tags(item["prompt"]),
        seed=item["seed"],
        **rest,
    )


def _reference(item: Any, place: str) -> Reference:
    required = {name: OF_REFERENCES[name] for name in ("image", "concept")}
    _check(item, required, OF_REFERENCES, place=place)
    if item["concept"] not in CONCEPTS:
        raise ValueError(f"{place}: concept {item['concept']!r} is none of {', '.join(CONCEPTS)}")
    box = item.get("box")
    if box is not None and (
        len(box) != 4
        or not all(_is(number, int) for number in box)
        or min(box) < 0
        or min(box[2:]) < 1
    ):
        raise ValueError(f"{place}: box {box} is not left, top, width, height in whole pixels")
    tags = _tags(item["tags"]) if "tags" in item else None
    return Reference(
        item["image"], CONCEPTS.index(item["concept"]), tuple(box) if box else None, tags
    )


def _check(
    item: Any, required: Mapping[str, type], optional: Mapping[str, type], *, place: str
) -> None:
    """Raises ValueError unless an object has these keys, and no others."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{place} is not an object")
    if missing := [key for key in required if key not in item]:
        raise ValueError(f"{place} has no {', '.join(missing)}")
    kinds = {**optional, **required}
    if unknown := item.keys() - kinds.keys():
        raise ValueError(
            f"{place}: unknown {', '.join(sorted(unknown))}; keys are {', '.join(kinds)}"
        )
    names = {str: "a text", int: "a whole number", list: "a list"}
    for key, kind in kinds.items():
        if key in item and not _is(item[key], kind):
            raise ValueError(f"{place}: {key} is not {names[kind]} but {item[key]!r}"[:300])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object; raises ValueError where a key is there twice."""
    counts = Counter(key for key, _ in pairs)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise ValueError(f"the key {repeated[0]!r} is there twice")
    return dict(pairs)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in text.split(",") if tag.strip())


def _item(entry: Entry) -> dict[str, Any]:
    """Returns the JSON object of an entry."""
    references = []
    for reference in entry.references:
        item: dict[str, Any] = {
            "image": reference.image, "concept": CONCEPTS[reference.concept],
        }  # fmt: skip
        if reference.box is not None:
            item["box"] = list(reference.box)
        if reference.tags is not None:
            item["tags"] = ", ".join(reference.tags)
        references.append(item)
    rest = {key: getattr(entry, key) for key in OPTIONAL if getattr(entry, key)}
    return {
        "id": entry.id,
        "image": entry.image,
        "references": references,
        "prompt": ", ".join(entry.prompt),
        "seed": entry.seed,
        **rest,
    }
