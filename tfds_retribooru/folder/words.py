"""What the names of folders and files say: masks, and classes such as `girl`."""

import os
import re
import unicodedata

from tfds_retribooru.tag_kinds import CLASSES

MASKS = ("masks", "mask")  # folders of masks
_MASK_WORDS = frozenset(
    (*MASKS, "seg", "segmentation", "segmentations", "matte", "mattes", "alpha", "gt")
)
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")  # SegmentationClass is two


def has_mask_word(name: str) -> bool:
    """Returns whether a name has a word in it that those of masks have."""
    return not _MASK_WORDS.isdisjoint(_words(name))


def is_class(name: str) -> bool:
    """Returns whether a name is but a word for anybody, such as `girl`."""
    return name.strip().lower() in CLASSES


def ends_in_class(name: str) -> bool:
    """Returns whether the last word is one for anybody: `anime girl`."""
    return is_class(_words(name)[-1])


def stem_of(name: str) -> str:
    """Returns a file's name without its ending, with composed letters: macOS takes them apart."""
    return unicodedata.normalize("NFC", os.path.splitext(name)[0])


def _words(name: str) -> list[str]:
    return [word.lower() for word in _BETWEEN_WORDS.split(name)]
