"""The manifest of what a build rejected, and the limits above which a build stops.

It stops where too many records are rejected, and where most of the records that have a part (boxes,
masks, clothing tags, `similar`, prompts) lose it: then the part is in a form that is not read.
"""

import dataclasses
import json
import pathlib
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence

from tfds_retribooru.building.records import Fault, Record

NAME = "rejected.jsonl"


class TooManyRejected(ValueError):
    """A build was stopped: the share of rejected records, or of a part of them, was too large."""


class Rejections:
    """Each fault as a line of `rejected.jsonl`, and their counts by reason.

    Attributes:
        counts: of (part, reason); part "" is the record itself.
        total: number of records that were read, the rejected ones too; 0 until it is known.
        kept, lost: by part, the records that keep what was given, and that lose all of it.
        notes: sentences for the report about what is no fault.
    """

    def __init__(self, folder: pathlib.Path, limit: float) -> None:
        """Starts an empty manifest in `folder`; `limit` is a share of records, in [0, 1].

        Raises:
            ValueError: for another limit.
        """
        if not 0 <= limit <= 1:
            raise ValueError(f"max_rejected={limit}: give a share of records between 0 and 1")
        self.path, self.limit = folder / NAME, limit
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kept: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.notes: list[str] = []
        self._first: dict[tuple[str, str], Fault] = {}
        self.total = 0
        self.path.write_text("")

    @property
    def rejected(self) -> int:
        """The number of records that were rejected."""
        return sum(n for (part, _), n in self.counts.items() if not part)

    def add(self, fault: Fault) -> None:
        """Writes and counts a fault.

        Raises:
            TooManyRejected: if it is one too many.
        """
        self.counts[fault.part, fault.reason] += 1
        self._first.setdefault((fault.part, fault.reason), fault)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(fault)) + "\n")
        if self.total and not fault.part:
            self.check()

    def add_image(self, record: Record, faults: Iterable[Sequence[str]], *, has_mask: bool) -> None:
        """Adds the faults (part, reason, detail) of the mask and the box of a stored image."""
        parts = set()
        for part, reason, detail in faults:
            self.add(record.fault(reason, part=part, detail=detail))
            parts.add(part)
        self.lost.update(parts & {"mask", "bbox"})
        self.kept["mask"] += has_mask
        if "bbox" in parts:
            self.kept["bbox"] -= 1  # it was counted when the annotations were read

    def check(self) -> None:
        """Stops the build if there are too many.

        Raises:
            TooManyRejected: it says why, and where the manifest was kept.
        """
        if self.rejected <= self.limit * self.total:
            return
        raise TooManyRejected(
            f"{self.rejected} of {self.total} records are rejected, more than "
            f"max_rejected={self.limit:g} allows, so nothing is built. All of them, so far: "
            f"{self._keep()}\n{self.summary()}\n"
            "Correct the annotations or the pictures, or give a higher limit: "
            "tfds.builder(..., max_rejected=0.05)"
        )

    def check_parts(self) -> None:
        """Stops the build if most of the records that have a part lose it.

        Raises:
            TooManyRejected: it says of which part, why, with an example, and what to do.
        """
        for part, lost in self.lost.items():
            given = lost + self.kept[part]
            if lost > given / 2 and lost > self.limit * self.total:
                raise TooManyRejected(
                    f"{lost} of the {given} records with {part} lose it, so nothing is built. All "
                    f"of them, so far: {self._keep()}\n{self._examples(part)}\n"
                    f"Correct {part}, or leave it out of the annotations; to build without what "
                    f"is lost, give a higher limit: tfds.builder(..., max_rejected=1)"
                )

    def _keep(self) -> pathlib.Path:
        """Copies the manifest beside its folder, which goes when the build ends."""
        kept = self.path.parent.parent / NAME
        shutil.copy(self.path, kept)
        return kept

    def _examples(self, part: str) -> str:
        """Returns a line for each reason of a part, with its first fault."""
        faults = ((n, self._first[key]) for key, n in self.counts.most_common() if key[0] == part)
        return "\n".join(
            f"  {n:>8}  {part}: {fault.reason}; first of record {fault.id}: {fault.detail}"
            for n, fault in faults
        )

    def summary(self) -> str:
        """Returns a line for each reason, records before their parts, the most frequent first.

        It names the first fault of the reason.
        """
        ordered = sorted(self.counts.items(), key=lambda item: (item[0][0] != "", -item[1]))
        return "\n".join(
            f"  {count:>8}  {f'{part} of a record' if part else 'record'}: {reason}"
            f"{_such_as(self._first[part, reason])}"
            for (part, reason), count in ordered
        )


def _such_as(fault: Fault) -> str:
    """Returns where a fault is, and what is there, behind a comma; "" if it says neither."""
    place = f"{fault.file}, line {fault.line}" if fault.line else fault.file
    if fault.id and fault.id != place:
        place = f"record {fault.id} ({place})" if place else f"record {fault.id}"
    said = ": ".join(filter(None, (place, fault.detail)))
    return f", such as {said}" if said else ""


def count(folder: pathlib.Path, part: str) -> int:
    """Returns the number of faults of a part that a build's manifest names; 0 without one."""
    path = folder / NAME
    if not path.exists():
        return 0
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(line)["part"] == part for line in file)
