"""What the records of a data set have and lose: boxes, clothing tags, prompts, links."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from tfds_retribooru import boxes, tag_text
from tfds_retribooru.boxes import Box
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections

SAME = 0.99  # formats in which about as many boxes are inside
MANY_SENTENCES = 0.1  # of the records with sentences, above which it is said
LARGE, SEVERAL = 400, 10  # pixels of a picture's shorter side, and boxes, that tell percent


class PartCounts:
    """Counts the parts of records as they are read; a record's faults come before it.

    Attributes:
        kept, lost: by part, records that keep what was given, and that lose all of it.
        untagged: records without a tag.
        sentences: records with a sentence among the tags.
        inside: by format, boxes in pixels that are inside a picture of known size.
        in_pixels: boxes in pixels.
        sized: of these, boxes in a picture of known size.
        in_percent: of these, boxes without a number above 100, in a picture of LARGE or more.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self.kept: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        # Of the boxes inside, by format: sums of how far right of the middle they are, as shares of
        # the picture, and of how far they are from squares, as logarithms of width / height.
        self._right: dict[str, float] = defaultdict(float)
        self._long: dict[str, float] = defaultdict(float)
        self.in_pixels = self.sized = self.in_percent = self.untagged = self.sentences = 0
        self._characters: Counter[str] = Counter()
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
        self._characters[item.character] += 1
        self.untagged += not item.prompts
        self.sentences += tag_text.is_sentence(item.prompts)
        if item.pixels:
            self.in_pixels += 1
            if item.size:
                self.add_pixels(item.pixels, item.size)

    def add_links(self, records: Sequence[Record], checked: Sequence[tuple[str, ...]]) -> None:
        """Counts the records whose links are left after they were checked."""
        for record, links in zip(records, checked, strict=True):
            was_given = bool(record.similar) or record.id in self._faulty_links
            self._count("similar", bool(links), was_given)

    def add_pixels(self, box: Box, size: tuple[int, int]) -> None:
        """Counts a box in pixels, which a record has, in a picture of known size."""
        self.sized += 1
        self.in_percent += max(box) <= 100 and min(size) >= LARGE
        for form in boxes.FORMATS:
            relative = boxes.from_pixels(box, size, form)
            if relative is not None:
                x, _, width, height = relative
                self.inside[form] += 1
                self._right[form] += x - 0.5
                self._long[form] += abs(math.log(width * size[0] / (height * size[1])))

    @property
    def box_format(self) -> str:
        """The format (see boxes.FORMATS) of the boxes in pixels.

        It is that in which most are inside their pictures. Where several are, faces tell: they are
        about as wide as high, and not more often on one side of a picture than on the other.
        """
        most = max(self.inside.values(), default=0)
        forms = [form for form in boxes.FORMATS if self.inside[form] >= SAME * most]
        return min(forms, key=self._unlikeliness)  # the first of equals

    def check_boxes(self) -> None:
        """Stops a build whose boxes are no pixels, as nearly all lie in the corner of 100 by 100.

        Raises:
            ValueError: it says what to give.
        """
        if self.in_percent >= max(SEVERAL, SAME * self.sized):
            raise ValueError(
                f"{self.in_percent:,} of {self.sized:,} boxes have no number above 100, in "
                f"pictures of {LARGE} pixels and more: they look like percent, as Label Studio "
                "writes them, and would be read as pixels. Give `bbox` as shares (0.42, not 42): "
                "centre x, centre y, width, height"
            )

    def report(self, log: Rejections) -> None:
        """Hands the counts on, and what they mean in sentences."""
        log.kept.update(self.kept)
        log.lost.update(self.lost)
        if len(self._characters) == 1 < self._characters.total():
            (name,) = self._characters
            log.notes.append(f"All records are of one character, {name}.")
        if self.untagged:
            log.notes.append(f"{self.untagged:,} records have no tags: their prompts are empty.")
        if self.sentences > MANY_SENTENCES * self._characters.total():
            log.notes.append(
                f"{self.sentences:,} records have sentences, not tags alone: a sentence that names "
                "a look or a garment is left out of prompts as a whole. Tags, as taggers write "
                "them, leave more of the prompt."
            )
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

    def _unlikeliness(self, form: str) -> float:
        count = max(self.inside[form], 1)
        return round((abs(self._right[form]) + self._long[form]) / count, 6)

    def _count(self, part: str, is_kept: bool, was_faulty: bool) -> None:
        if is_kept:
            self.kept[part] += 1
        elif was_faulty:
            self.lost[part] += 1
