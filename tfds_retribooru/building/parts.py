"""What the records of a data set have and lose: boxes, clothing tags, prompts, links."""

from collections import Counter
from collections.abc import Sequence

from tfds_retribooru import boxes
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections


class PartCounts:
    """Counts the parts of records as they are read; a record's faults come before it.

    Attributes:
        kept, lost: by part, records that keep what was given, and that lose all of it.
        untagged: records without a tag.
        inside: by format, boxes in pixels that are inside a picture of known size.
        in_pixels: boxes in pixels.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self.kept: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.in_pixels = self.untagged = 0
        self._faulty: set[tuple[str, str]] = set()  # (id, part) of the record that comes
        self._faulty_links: set[str] = set()

    def add(self, item: Record | Fault) -> None:
        """Counts a record, or notes a fault of the record that comes."""
        if isinstance(item, Fault):
            if item.part == "similar":
                self._faulty_links.add(item.id)
            elif item.part:
                self._faulty.add((item.id, item.part))
            return
        box = item.bbox or item.pixels
        for part, value in (("bbox", box), ("cloths", item.cloths), ("prompts", item.prompts)):
            self._count(part, bool(value), (item.id, part) in self._faulty)
        self._faulty.clear()
        self.untagged += not item.prompts
        if item.pixels:
            self.in_pixels += 1
            if item.size:
                forms = (f for f in boxes.FORMATS if boxes.from_pixels(item.pixels, item.size, f))
                self.inside.update(forms)

    def add_links(self, records: Sequence[Record], checked: Sequence[tuple[str, ...]]) -> None:
        """Counts the records whose links are left after they were checked."""
        for record, links in zip(records, checked, strict=True):
            was_given = bool(record.similar) or record.id in self._faulty_links
            self._count("similar", bool(links), was_given)

    @property
    def box_format(self) -> str:
        """The format in which most boxes in pixels are inside their pictures; see boxes.FORMATS."""
        return max(boxes.FORMATS, key=lambda form: self.inside[form])  # the first of equals

    def report(self, log: Rejections) -> None:
        """Hands the counts on, and what they mean in sentences."""
        log.kept.update(self.kept)
        log.lost.update(self.lost)
        if self.untagged:
            log.notes.append(f"{self.untagged:,} records have no tags: their prompts are empty.")
        if self.in_pixels:
            log.notes.append(f"{self.in_pixels:,} boxes in pixels were read as {self.box_format}.")
        if not self.kept["bbox"]:
            log.notes.append(
                "No record has a face box, so no reference shows a face or clothes alone: the task "
                "`composition` cannot be trained."
            )
        if not self.kept["similar"]:
            log.notes.append(
                "No record names another one in the same outfit (`similar`, or a folder OUTFIT): "
                "each picture is an outfit of its own, which no reference shows."
            )

    def _count(self, part: str, is_kept: bool, was_faulty: bool) -> None:
        if is_kept:
            self.kept[part] += 1
        elif was_faulty:
            self.lost[part] += 1
