"""Steps of the Beam pipeline that find which posts belong together: copies and variants."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from tfds_retribooru import variants
from tfds_retribooru.collect import filters, image_models, near_duplicates
from tfds_retribooru.collect.filters import Candidate
from tfds_retribooru.collect.image_models import ImageName

DROPPED = "dropped"  # tag of the output with the arguments of `output.dropped`


class Located(NamedTuple):
    """A candidate, and the file and line where it stands.

    Attributes:
        key: the same for those that parents and children connect; 0 until it is known.
        hashed: of its image; None without one.
    """

    post: Candidate
    file: str
    line: int
    key: int = 0
    hashed: bytes | None = None

    @property
    def image(self) -> ImageName:
        """What names the image."""
        return self.post.id, self.post.file_ext, self.post.md5

    def drop(self, reason: str) -> beam.pvalue.TaggedOutput:
        """Returns the arguments of `output.dropped` about this candidate."""
        row = self.post.id, reason, self.file, self.line
        return beam.pvalue.TaggedOutput(DROPPED, row)


def keep_first(
    posts: beam.PCollection,
    reason: str,
    *,
    key: Callable[[Located], Any],
    order: Callable[[Located], Any],
) -> tuple[beam.PCollection, beam.PCollection]:
    """Keeps of the candidates with one key the first; returns (kept, rows of the others)."""

    def first(element: tuple[Any, Iterable[Located]]) -> Iterator:
        best, *others = sorted(element[1], key=order)
        yield best
        yield from (other.drop(reason) for other in others)

    outputs = (
        posts
        | f"Key of {reason}" >> beam.Map(lambda c: (key(c), c))
        | f"Group {reason}" >> beam.GroupByKey()
        | f"First of {reason}" >> beam.FlatMap(first).with_outputs(DROPPED, main="main")
    )
    return outputs.main, outputs[DROPPED]


def with_keys(posts: beam.PCollection, links: beam.PCollection) -> beam.PCollection:
    """Gives posts their keys; one worker holds all links."""

    def join(name: int, groups: dict[str, Iterable]) -> Iterator[Located]:
        key = min(groups["keys"], default=name)
        yield from (candidate._replace(key=key) for candidate in groups["posts"])

    keys = (
        links
        | "All links" >> beam.combiners.ToList()
        | "Connect links" >> beam.FlatMap(lambda pairs: variants.roots(pairs).items())
    )
    by_id = posts | "Posts by id" >> beam.Map(lambda c: (c.post.id, c))
    return (
        {"posts": by_id, "keys": keys}
        | "Join keys" >> beam.CoGroupByKey()
        | "Give keys" >> beam.FlatMapTuple(join)
    )


def drop_near_copies(
    posts: beam.PCollection, images: pathlib.Path, distance: int
) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
    """Drops posts without a readable image, then near copies of a post with a smaller id.

    Hashes with an equal band meet in one group, as in `near_duplicates.near_copies`.

    Returns:
        The kept candidates, then the rows of both kinds of dropped ones.
    """

    def hash_image(candidate: Located) -> Iterator:
        result = image_models.hash_image(images, candidate.image)
        is_bad = isinstance(result, str)
        yield candidate.drop(result) if is_bad else candidate._replace(hashed=result)

    def by_band(candidate: Located) -> Iterator:
        hashed = candidate.hashed or b""
        bits = np.frombuffer(hashed, np.uint8)[None, : variants.BITS]
        for k, band in enumerate(near_duplicates.bands(bits, distance + 1)[0].tolist()):
            yield (k, band), (candidate.post.id, hashed)

    def copies(element: tuple[Any, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[int, bool]]:
        ids, hashes = zip(*element[1], strict=True)
        marked = near_duplicates.near_copies(hashes, np.array(ids), distance)
        yield from ((ids[i], True) for i in np.flatnonzero(marked))

    def drop_copies(_: int, groups: dict[str, Iterable]) -> Iterator:
        (candidate,) = groups["posts"]
        yield candidate.drop(filters.NEAR_COPY) if any(groups["copies"]) else candidate

    hashed = posts | "Hash" >> beam.FlatMap(hash_image).with_outputs(DROPPED, main="main")
    marked = (
        hashed.main
        | "Bands" >> beam.FlatMap(by_band)
        | "Equal bands" >> beam.GroupByKey()
        | "Copies" >> beam.FlatMap(copies)
    )
    by_id = hashed.main | "By id" >> beam.Map(lambda c: (c.post.id, c))
    outputs = (
        {"posts": by_id, "copies": marked}
        | "Join copies" >> beam.CoGroupByKey()
        | "Drop copies" >> beam.FlatMapTuple(drop_copies).with_outputs(DROPPED, main="main")
    )
    return outputs.main, hashed[DROPPED], outputs[DROPPED]
