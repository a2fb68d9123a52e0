"""Who is asked about the images of an evaluation, what, and how it is known to be reliable."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.evaluation.asking import VQAModel
from rbjax.evaluation.embedders import NOTHING, Embed, Embedders
from rbjax.interop import hub_cache
from rbjax.models.pixels import to_float
from rbjax.text.concepts import CHARACTER
from rbjax.vqa import judge as judge_lib
from rbjax.vqa import tag_questions
from rbjax.vqa.judge import Judge
from rbjax.vqa.model import PACKAGED, VQA

LISTED = 200  # tags without a question in results.json
PRINTED = 10


@dataclasses.dataclass(frozen=True)
class Judging:
    """A VQA model, what it is asked, what is known of it; and models that compare images.

    Attributes:
        vqa: the model; None where it may be asked nothing.
        embed: images, float32 [N, H, W, 3] in [-1, 1], to the vectors of its vision model.
        vocabulary: of the data set, with questions about all tags that have a rule.
        record: for results.json: {"folder", "files" (a digest), "split", "required", "measured"};
            `measured` is null where the model's own accuracy.json says what may be asked, or
            nothing is known.
        coverage: for results.json: {"share", "tags", "uncovered": [[tag, share], ...]}.
        embedders: of the user.
    """

    vqa: VQAModel | None
    embed: Embed
    vocabulary: Mapping[str, Any]
    record: Mapping[str, Any]
    coverage: Mapping[str, Any]
    embedders: Embedders = NOTHING

    @property
    def embeddings(self) -> dict[str, Embed]:
        """All that entire images are compared by: name to images -> vectors."""
        return {"judge's features": self.embed, **self.embedders.images}


def create(
    folder: str,
    split: Split,
    open_split: Callable[[str], Split],
    *,
    names: Iterable[str],
    size: int,
    more_tags: Iterable[str] = (),
    embedders: Embedders = NOTHING,
) -> Judging:
    """Opens the VQA model, and measures it where nothing is known of it on this data.

    Args:
        folder: of a BLIP-VQA; "" = the one that ships.
        split: that is evaluated.
        open_split: opens another one of the data set.
        names: of its splits.
        size: pixels of the images that are scored.
        more_tags: that the data set's vocabulary may lack.
        embedders: of the user.

    Raises:
        FileNotFoundError, ValueError: as `VQA.load`; the images are too small for the model.
    """
    given, path = _folders(folder)
    vqa = VQA.load(path)
    vocabulary = tag_questions.complete(split.vocabulary, more_tags=more_tags)
    found = tag_questions.coverage(split.tags, vocabulary)
    coverage = {
        "share": found.share,
        "tags": found.tags,
        "uncovered": [list(pair) for pair in found.uncovered[:LISTED]],
    }
    record = _record(given, path)
    # "measured" is in that of a model of tags: it is about the questions made from these
    knows_questions = vqa.accuracy is not None and "measured" not in vqa.accuracy
    if split.vocabulary["questions"] and knows_questions:
        vqa.asked_at(size)  # raises before anything trains
        return Judging(vqa, vqa.embed_images, vocabulary, record, coverage, embedders)
    name = "validation" if "validation" in names else "train"
    measured = _measure(vqa, path, vocabulary, open_split(name), size=size)
    judge = Judge(vqa, vocabulary, measured)
    record |= {"split": name, "required": judge_lib.REQUIRED, "measured": measured}
    _print(record, judge, found)
    asked = judge if judge.asked else None
    return Judging(asked, vqa.embed_images, vocabulary, record, coverage, embedders)


def unmeasured(folder: str, tags: Iterable[str], embedders: Embedders = NOTHING) -> Judging:
    """Opens a VQA model for images of no data set: every rule's question is asked.

    Args:
        folder: of a BLIP-VQA that transformers saved.
        tags: of prompts and references.
        embedders: of the user.

    Raises:
        ValueError: the model knows the questions of its own data set only.
    """
    given, path = _folders(folder)
    vqa = VQA.load(path)
    if vqa.accuracy is not None:
        raise ValueError(
            f"{given} answers the questions of the data set that it was trained on: give that "
            "(--dataset), or a BLIP-VQA of transformers (--vqa)"
        )
    vocabulary = tag_questions.complete({"tags": {}, "questions": {}}, more_tags=tags)
    print(
        f"Every question is asked, although nothing is known of how reliable {given.name} is for "
        "these images: give a --dataset with tags to measure it.",
        flush=True,
    )
    named = dict.fromkeys(vocabulary["questions"], {"agreement": 1.0, "answers": {}})
    found = tag_questions.coverage([list(tags)], vocabulary)
    coverage = {"share": found.share, "tags": found.tags, "uncovered": []}
    judge = Judge(vqa, vocabulary, named)
    return Judging(judge, vqa.embed_images, vocabulary, _record(given, path), coverage, embedders)


def _folders(folder: str) -> tuple[Path, Path]:
    """Returns the folder as it is given ("" = what ships), and the one of the model's files."""
    given = Path(folder).expanduser() if folder else PACKAGED
    return given, hub_cache.model_folder(given)


def _record(given: Path, path: Path) -> dict[str, Any]:
    """Returns what is known of a model before it is measured."""
    files = judge_lib.fingerprint(path)
    return {"folder": given.name, "files": files, "split": None, "measured": None}


def _measure(
    vqa: VQA, path: Path, vocabulary: Mapping[str, Any], split: Split, *, size: int
) -> dict[str, dict[str, Any]]:
    """Returns what `judge.measure` says, or said before, of questions that the model can read."""
    texts = {name: text for name, text in vocabulary["questions"].items() if vqa.can_read(text)}
    vocabulary = {**vocabulary, "questions": texts}
    build = hashlib.sha256((split.directory / "dataset_info.json").read_bytes()).hexdigest()
    key = judge_lib.fingerprint(
        path, build, split.name, size, sorted(vocabulary["questions"].items())
    )
    crops = ConceptCrops(split, size=size, view="crop", cache=False)

    def make() -> dict[str, dict[str, Any]]:
        print(f"Asking the VQA model about real images of {split.name}, once.", flush=True)
        return judge_lib.measure(
            vqa,
            vocabulary,
            split.tags,
            lambda positions: to_float(np.stack([crops[p, CHARACTER] for p in positions])),
        )

    return judge_lib.kept(split.directory, key, make)


def _print(record: Mapping[str, Any], judge: Judge, found: tag_questions.Coverage) -> None:
    """Says what may be asked, and which tags nobody asks about."""
    asked, measured = judge.asked, record["measured"]
    print(
        f"Questions made from tags cover {100 * found.share:.0f} % of the tags. Of {len(measured)} "
        f"attributes that images of {record['split']} tell apart, {record['folder']} agrees with "
        f"the tags in {len(asked)} ({100 * judge_lib.REQUIRED:.0f} % and more): "
        + (", ".join(sorted(asked)) or "none. Nothing is asked; images are compared, not scored.")
    )
    rest = ", ".join(f"{tag} {100 * share:.1f} %" for tag, share in found.uncovered[:PRINTED])
    if rest:
        print(
            f"Tags without a question: {rest}" + (", ..." if len(found.uncovered) > PRINTED else "")
        )
