"""A suite's cases for other systems to fill, and their images as rows of the same table."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rbjax.data import crops
from rbjax.data import images as images_lib
from rbjax.evaluation import baselines, manifest, saved_images, variants
from rbjax.evaluation.baselines import SystemImages
from rbjax.evaluation.manifest import Entry, Reference
from rbjax.evaluation.regions import in_square
from rbjax.evaluation.similarity import Region
from rbjax.evaluation.suite import Case, Suite
from rbjax.text.concepts import CHARACTER
from tfds_retribooru import boxes, decoding
from tfds_retribooru.boxes import SizedBox

MAX_SIZE = 512  # pixels of images that are scored
# names of rows, and of folders beside theirs, that another system cannot have
RESERVED = (*baselines.SYSTEMS, *variants.VARIANTS, saved_images.REAL)
ReadRecord = Callable[[int], Mapping[str, Any]]  # as `crops.crop_concept` reads it


def entries(suite: Suite, name: str, read_record: ReadRecord) -> list[Entry]:
    """Returns the entry of each case.

    Args:
        suite: the cases.
        name: of the suite.
        read_record: reads a record.
    """
    boxes: dict[tuple[int, int], Reference] = {}
    made = []
    for number, case in enumerate(suite.cases):
        for pair in zip(case.references, case.concepts, strict=True):
            if pair not in boxes:
                boxes[pair] = _reference(*pair, read_record(pair[0]))
        name_of_case = f"{name}-{number:05d}"
        made.append(
            Entry(
                id=name_of_case,
                image=f"images/{name_of_case}.png",
                references=tuple(
                    boxes[pair] for pair in zip(case.references, case.concepts, strict=True)
                ),
                prompt=case.prompt,
                seed=case.seed,
                character=str(case.character),
            )
        )
    return made


def write_cases(folder: Path, suite: Suite, name: str, read_record: ReadRecord) -> Path:
    """Writes a manifest with the references' files; the images are for others to make.

    Returns:
        The manifest's path.

    Raises:
        FileExistsError: the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder for the cases")
    for part in ("references", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for position in sorted({p for case in suite.cases for p in case.references}):
        image = images_lib.to_pillow(read_record(position)["image"])
        image.convert("RGB").save(folder / _file(position))
    return manifest.write(folder, entries(suite, name, read_record))


def read_system(
    folder: Path, suite: Suite, name: str, *, size: int, read_record: ReadRecord
) -> SystemImages:
    """Reads the images that another system made of a suite's cases.

    Args:
        folder: with a manifest of `write_cases`.
        suite: the cases.
        name: of the suite.
        size: pixels of the images that are scored.
        read_record: reads a record.

    Raises:
        FileNotFoundError: there is no manifest, or no image.
        ValueError: the manifest is damaged, or is of other cases; the entry is named.
    """
    given = {entry.id: entry for entry in manifest.read(folder)}
    wanted = entries(suite, name, read_record)
    if strange := given.keys() - {entry.id for entry in wanted}:
        raise ValueError(
            f"{folder / manifest.NAME}: {sorted(strange)[0]!r} and {len(strange) - 1} other "
            f"entries are none of the suite {name!r} with these options: score them without "
            "--suite, or write the cases again (--write_manifest)"
        )
    for entry in wanted:
        if entry.id in given:
            _compare(entry, given[entry.id], folder)
    found = [given.get(entry.id) for entry in wanted]
    images, faults = manifest.read_images(folder, found, size)
    return SystemImages(images, suite.cases, faults)


def _compare(wanted: Entry, given: Entry, folder: Path) -> None:
    """Raises ValueError where an entry asks for something else than its case."""
    for field in ("references", "prompt", "seed", "character"):
        a, b = getattr(wanted, field), getattr(given, field)
        if a != b:
            raise ValueError(
                f"{folder / manifest.NAME}, entry {given.id!r}: its {field} is not that of the "
                f"suite's case ({b!r} instead of {a!r}): images of other cases cannot stand in one "
                "table; write the cases again (--write_manifest)"[:600]
            )


def _reference(position: int, concept: int, record: Mapping[str, Any]) -> Reference:
    if concept == CHARACTER:
        return Reference(_file(position), concept)
    image = images_lib.to_pillow(record["image"])
    mask = record["mask"] if record.get("has_mask", True) else None
    box = crops.concept_box(
        record["bbox"], mask, concept=concept, shape=(image.height, image.width)
    )
    sized = (box.left, box.top, box.right - box.left, box.bottom - box.top)
    return Reference(_file(position), concept, sized)


def _file(position: int) -> str:
    return f"references/{position}.png"


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Images with manifests of their own, as a suite that no data set knows.

    Attributes:
        suite: the cases of all folders; positions number files. Its vocabulary is empty.
        systems: name to images.
        files: of each position.
        digests: of each position, of its file's content, box and tags.
        boxes: (position, concept) to left, top, width, height in pixels of the file.
        size: pixels of the images.
    """

    suite: Suite
    systems: Mapping[str, SystemImages]
    files: tuple[Path, ...]
    digests: tuple[str, ...]
    boxes: Mapping[tuple[int, int], SizedBox]
    size: int

    def region(self, position: int, concept: int) -> Region | None:
        """Returns where a reference shows its concept; None where the manifest does not say."""
        if (position, concept) not in self.boxes:
            return None
        left, top, width, height = self.boxes[position, concept]
        box = (left, top, left + width, top + height)
        return in_square(box, decoding.decode(self.files[position].read_bytes()).image.size)

    def read_images(self, positions: Sequence[int]) -> np.ndarray:
        """Reads references and targets, float32 [N, size, size, 3] in [-1, 1].

        Raises:
            ValueError: a file cannot be read; it is named.
        """
        images = []
        for position in positions:
            try:
                images.append(manifest.read_image(self.files[position], self.size))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{self.files[position]}, which a manifest names as reference or target, "
                    f"cannot be read: {error}"
                ) from error
        return np.stack(images) if images else np.zeros((0, self.size, self.size, 3), np.float32)


def size_of(folders: Iterable[Path]) -> int:
    """Returns the larger side that most images have, at most MAX_SIZE; of several the largest.

    Args:
        folders: with manifests.

    Raises:
        FileNotFoundError: no image can be read.
    """
    sides: Counter[int] = Counter()
    paths = [folder / entry.image for folder in folders for entry in manifest.read(folder)]
    for path in paths:
        try:
            with Image.open(path) as image:  # reads its head
                sides[max(image.size)] += 1
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    if not sides:
        raise FileNotFoundError(f"none of the images can be read, such as {paths[0]}")
    side = max(sides, key=lambda side: (sides[side], side))
    return min(side, MAX_SIZE)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Numbers the files that manifests name, as if they were records of a data set.

    A file of the same content, box and tags has the same number, in whichever folder it lies.

    Attributes:
        numbers: of each digest of content, box and tags.
        paths: of each number.
        tags: of each number.
        boxes: of each number and concept that has one.
    """

    numbers: dict[str, int] = dataclasses.field(default_factory=dict)
    paths: list[Path] = dataclasses.field(default_factory=list)
    tags: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    boxes: dict[tuple[int, int], SizedBox] = dataclasses.field(default_factory=dict)

    def number(self, folder: Path, shown: Reference) -> int:
        """Returns the number of a file, a new one where it was not there before.

        Raises:
            ValueError: the reference's box is not inside the image.
        """
        path = folder / shown.image
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:  # it is named where it is needed
            content = str(path)
        described = json.dumps([content, shown.box, shown.tags])
        digest = hashlib.sha256(described.encode()).hexdigest()
        number = self.numbers.setdefault(digest, len(self.numbers))
        if number == len(self.paths):
            self.paths.append(path)
            self.tags[number] = shown.tags or ()
            if shown.box is not None:
                _check_box(path, shown.box)
        if shown.box is not None:
            self.boxes[number, shown.concept] = shown.box
        return number


def _check_box(path: Path, box: SizedBox) -> None:
    """Raises ValueError if a box is not inside its image; an image that is none is named later."""
    try:
        width, height = decoding.decode(path.read_bytes()).image.size
    except (OSError, decoding.Unreadable):
        return
    if not boxes.is_inside(box, width, height):
        raise ValueError(
            f"the manifest's box {list(box)} (left, top, width, height) of the reference {path} is "
            f"not inside its image of {width}x{height} pixels"
        )


def read_foreign(folders: Mapping[str, Path], size: int) -> Foreign:
    """Reads folders with manifests of any cases.

    Args:
        folders: name of a system to its folder.
        size: pixels of the images that are scored.

    Raises:
        FileNotFoundError, ValueError: as `manifest.read` and `manifest.read_images`.
    """
    files = _Files()
    characters: dict[str | tuple[int, ...], int] = {}
    systems, all_cases = {}, []
    for name, folder in folders.items():
        read = manifest.read(folder)
        cases = _cases(folder, read, files, characters)
        images, faults = manifest.read_images(folder, read, size)
        systems[name] = SystemImages(images, tuple(cases), faults)
        all_cases += cases
    suite = Suite(tuple(all_cases), files.tags, {"tags": {}, "questions": {}})
    return Foreign(suite, systems, tuple(files.paths), tuple(files.numbers), files.boxes, size)


def _cases(
    folder: Path,
    read: Sequence[Entry],
    files: _Files,
    characters: dict[str | tuple[int, ...], int],
) -> list[Case]:
    """Returns the cases of a manifest's entries; `files` and `characters` receive what is new."""
    cases = []
    seeds: Counter[tuple[Any, ...]] = Counter()  # of what is asked for so far
    for entry in read:
        positions = tuple(files.number(folder, reference) for reference in entry.references)
        character = characters.setdefault(entry.character or positions, len(characters))
        concepts = tuple(reference.concept for reference in entry.references)
        asked = (character, positions, concepts, entry.prompt)
        target = Reference(entry.target, CHARACTER)
        cases.append(
            Case(
                character=character,
                references=positions,
                concepts=concepts,
                prompt=entry.prompt,
                seed=entry.seed,
                real=files.number(folder, target) if entry.target else None,
                repeat=seeds[asked] if entry.prompt else 0,  # open cases have none
            )
        )
        seeds[asked] += 1
    return cases
