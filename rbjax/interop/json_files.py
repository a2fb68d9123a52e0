"""JSON files that a user may have edited or damaged: errors name the file."""

import json
from pathlib import Path


def read(path: str | Path) -> dict:
    """Returns the object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no JSON object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {str(content)[:40]!r} instead of a JSON object")
    return content
