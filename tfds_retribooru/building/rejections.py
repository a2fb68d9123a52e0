"""The manifest of what a build rejected, and the limit above which a build stops."""

import dataclasses
import json
import pathlib
import shutil
from collections import Counter

from tfds_retribooru.building.records import Fault

NAME = "rejected.jsonl"


class TooManyRejected(ValueError):
    """A build was stopped: the share of rejected records was above the limit."""


class Rejections:
    """Each fault as a line of `rejected.jsonl`, and their counts by reason.

    Attributes:
        counts: of (part, reason); part "" is the record itself.
        total: number of records that were read, the rejected ones too; 0 until it is known.
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
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(fault)) + "\n")
        if self.total and not fault.part:
            self.check()

    def check(self) -> None:
        """Stops the build if there are too many.

        Raises:
            TooManyRejected: it says why, and where the manifest was kept.
        """
        if self.rejected <= self.limit * self.total:
            return
        kept = self.path.parent.parent / NAME  # the folder itself goes when the build ends
        shutil.copy(self.path, kept)
        raise TooManyRejected(
            f"{self.rejected} of {self.total} records are rejected, more than "
            f"max_rejected={self.limit:g} allows, so nothing is built. All of them, so far: {kept}"
            f"\n{self.summary()}\n"
            "Correct the annotations or the pictures, or give a higher limit: "
            "tfds.builder(..., max_rejected=0.05)"
        )

    def summary(self) -> str:
        """Returns a line for each reason, records before their parts, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda item: (item[0][0] != "", -item[1]))
        return "\n".join(
            f"  {count:>8}  {f'{part} of a record' if part else 'record'}: {reason}"
            for (part, reason), count in ordered
        )
