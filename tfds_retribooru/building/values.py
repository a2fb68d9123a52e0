"""Values as tables and texts hold them: lists in a text, numbers as texts or floats, NaN."""

import math
import re
from typing import Any

_BRACKETS = re.compile(r"[\[({](.*)[\])}]", re.DOTALL)  # around a list
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def listed(text: str) -> list[str]:
    """Returns the ids or numbers of a text: `2 3`, `2, 3`, `2;3`, `[2, 3]`, `['2', '3']`.

    Spaces are between ids only where each word has a number: names of files may have them.
    """
    inner = _BRACKETS.fullmatch(text.strip())
    found: list[str] = []
    for part in re.split(r"[,;|\n\t]", inner[1] if inner else text):
        words = part.split()
        found += words if all(re.search(r"\d", word) for word in words) else [part]
    return [name for name in (part.strip(" '\"") for part in found) if name]


def number(value: Any) -> float | None:
    """Returns a number, also of a text; None if it is none."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    return value if type(value) in (int, float) else None


def side(value: Any) -> int | None:
    """Returns a number of pixels, 1 to 10**7, also of a text; None if it is none."""
    value = whole(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 8:
        value = int(value)
    return value if type(value) is int and 0 < value < 10**7 else None


def whole(value: Any) -> Any:
    """Returns an integer that a table's column of floats holds (3.0) as such."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_nan(value: Any) -> bool:
    """Whether a value is missing, as tables of pandas write it."""
    return isinstance(value, float) and math.isnan(value)
