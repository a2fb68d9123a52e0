"""The two kinds of lines that a collection writes: annotations and what was dropped.

An annotation has the keys of RetriBooru's figure (`bbox` is null without a face), and `md5`,
`width`, `height`, `file_ext` of the metadata, those that are known. A dropped line says which post,
why, and in which file and line it stands.
"""

from collections.abc import Sequence

import orjson

from tfds_retribooru.collect.filters import Candidate

Box = tuple[float, float, float, float]

# The list of what was dropped; in a folder of its own, as a builder reads all of the one above.
DROPPED_FILE = "manifest/dropped.jsonl"

# Reasons that come after `filters.REASONS`, from a look at more than one post or at pictures.
DUPLICATE_ID = "duplicate_id"
DUPLICATE_FILE = "duplicate_file"
NO_IMAGE = "no_image"
UNREADABLE_IMAGE = "unreadable_image"
NEAR_COPY = "near_copy"
NO_PARTNER = "no_partner"
KEPT = ""
LATE_REASONS = (
    KEPT,
    DUPLICATE_ID,
    DUPLICATE_FILE,
    NO_IMAGE,
    UNREADABLE_IMAGE,
    NEAR_COPY,
    NO_PARTNER,
)


def annotation(post: Candidate, similar: Sequence[int], bbox: Box | None) -> bytes:
    """One annotation as JSON, without the line's end."""
    record = {
        "id": str(post.id),
        "character": post.character,
        "artists": post.artist,
        "bbox": bbox,
        "cloths": post.cloths,
        "similar": [str(partner) for partner in similar],
        "prompts": ", ".join(post.prompts),
    }
    known = {"md5": post.md5, "width": post.width, "height": post.height, "file_ext": post.file_ext}
    return orjson.dumps(record | {key: value for key, value in known.items() if value})


def dropped(name: int | str, reason: str, file: str, line: int) -> bytes:
    """One line of `dropped.jsonl`, without the line's end."""
    return orjson.dumps({"id": str(name), "reason": reason, "file": file, "line": int(line)})
