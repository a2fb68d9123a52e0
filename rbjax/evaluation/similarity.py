"""Similarity to references, prompts and wanted answers, by models of a user (embedders.py).

Columns, each there only where its model is given; cosines, as shares:

* `clip_i`, `dino`: of the entire image to the case's references, the mean over them (as DreamBooth
  reports them, arXiv 2208.12242);
* `clip_i_face`, `clip_i_clothes`, `dino_face`, `dino_clothes`: of the region in which a reference
  shows its concept, in both images. Nobody looks for the concept in a generated image: where
  figures move, the entire image says more;
* `clip_t`: of the image to its prompt;
* `face_distance`: 1 - cosine of the faces' regions, by a network for faces; lower is better;
* `answer_similarity`: of the VQA model's answers to the wanted ones of the prompt, by CLIP's text
  encoder: 1 is the wanted answer, 0 another one of the attribute on average (ours).

An image that is not finite or missing, and a prompt without tags, has no value.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.case_prompts import FIRST_TAG
from rbjax.evaluation.columns import Column
from rbjax.evaluation.embedders import CLIP, DINO, Embed, Embedders
from rbjax.evaluation.results import label, percent
from rbjax.evaluation.suite import Case
from rbjax.metrics.vqa_score import normalised
from rbjax.text.concepts import CLOTHES, CONCEPTS, FACE
from rbjax.vqa.judge import NO
from rbjax.vqa.tag_questions import YES

NAMES = {CLIP: "clip_i", DINO: "dino"}
ENTIRE = "↑ Cosine of the entire image and its references, in the features of {}."
PART = "↑ The same of the part of both images that shows the reference's {}."
NOTES = {
    "clip_i": ENTIRE.format(CLIP),
    "clip_i_face": PART.format("face"),
    "clip_i_clothes": PART.format("clothes"),
    "dino": ENTIRE.format(DINO),
    "dino_face": PART.format("face"),
    "dino_clothes": PART.format("clothes"),
    "clip_t": "↑ Cosine of the image and its prompt in CLIP's space.",
    "face_distance": "↓ 1 - cosine of that part in a network for faces.",
    "answer_similarity": (
        "↑ Similarity of the VQA model's answers to what the prompt asks for, by CLIP's text "
        "encoder: 100 is the wanted answer, 0 is as near as other answers are on average."
    ),
}
Values = dict[int, float]  # number of a case -> value, of those that have one


class Region(NamedTuple):
    """A part of a square image, as shares of its side."""

    left: float
    top: float
    right: float
    bottom: float

    def of(self, image: np.ndarray) -> np.ndarray:
        """Cuts it out of an image [S, S, 3]; it is at least a pixel."""
        side = len(image)
        left, top = (min(math.floor(share * side), side - 1) for share in self[:2])
        right, bottom = (math.ceil(share * side) for share in self[2:])
        return image[top : max(bottom, top + 1), left : max(right, left + 1)]


# (position of a record, concept) -> where the record shows it; None: nobody knows
FindRegion = Callable[[int, int], Region | None]


def of_systems(
    systems: Mapping[str, SystemImages],
    embedders: Embedders,
    *,
    read_images: ReadImages,
    region: FindRegion,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    vocabulary: Mapping[str, Any],
    resamples: int = 2000,
) -> dict[str, dict[str, Any]] | None:
    """Returns {system: {column: cell}}, cells as of `Column.summary`; None if there is no model.

    Args:
        systems: the rows; open cases are not counted.
        embedders: the models.
        read_images: reads real images.
        region: where concepts are.
        records: `results["scored"]`.
        vocabulary: of the suite.
        resamples: of the bootstrap.
    """
    if not embedders.all:
        return None
    scale = AnswerScale(embedders.texts, vocabulary) if embedders.texts else None
    rows = {}
    for name, system in systems.items():
        counted = [i for i, case in enumerate(system.cases) if not case.is_open]
        found = _columns(system, counted, embedders, read_images, region)
        if scale is not None:
            found["answer_similarity"] = scale.values(records[name], counted)
        cases = [system.cases[i] for i in counted]
        who, repeats = [c.character for c in cases], [c.repeat for c in cases]
        rows[name] = {
            column: Column([of.get(i, math.nan) for i in counted], who, repeats).summary(resamples)
            for column, of in found.items()
        }
    return rows


def table(similarity: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the rows as a Markdown table, in percent."""
    names = list(next(iter(similarity.values())))
    lines = ["| | " + " | ".join(map(label, names)) + " |", "| --- " * (len(names) + 1) + "|"]
    for row, cells in similarity.items():
        lines.append(f"| {label(row)} | {' | '.join(percent(cells[n]) for n in names)} |")
    return "\n".join(lines)


def _columns(
    system: SystemImages,
    counted: Sequence[int],
    embedders: Embedders,
    read_images: ReadImages,
    region: FindRegion,
) -> dict[str, Values]:
    """Returns the columns of images."""
    sound = [i for i in counted if i not in system.faults and np.isfinite(system.images[i]).all()]
    images = {i: (system.cases[i], system.images[i]) for i in sound}
    positions = sorted({p for case, _ in images.values() for p in case.references})
    real = dict(zip(positions, read_images(positions), strict=True)) if positions else {}
    found: dict[str, Values] = {}
    for model, embed in embedders.images.items():
        name = NAMES[model]
        found[name] = _whole(embed, images, real)
        for concept in (FACE, CLOTHES):
            part = f"{name}_{CONCEPTS[concept]}"
            found[part] = _regions(embed, images, real, concept, region)
    if embedders.texts is not None:
        found["clip_t"] = _prompts(embedders, images)
    if embedders.faces is not None:
        near = _regions(embedders.faces, images, real, FACE, region)
        found["face_distance"] = {i: 1 - value for i, value in near.items()}
    return found


Images = Mapping[int, tuple[Case, np.ndarray]]


def _whole(embed: Embed, images: Images, real: Mapping[int, np.ndarray]) -> Values:
    if not images:
        return {}
    references = dict(zip(real, unit(embed(list(real.values()))), strict=True))
    vectors = unit(embed([image for _, image in images.values()]))
    return {
        i: float(np.mean([references[p] @ vector for p in case.references]))
        for (i, (case, _)), vector in zip(images.items(), vectors, strict=True)
    }


def _regions(
    embed: Embed,
    images: Images,
    real: Mapping[int, np.ndarray],
    concept: int,
    region: FindRegion,
) -> Values:
    pairs = [
        (i, place.of(image), place.of(real[position]))
        for i, (case, image) in images.items()
        for position, of in zip(case.references, case.concepts, strict=True)
        if of == concept and (place := region(position, concept)) is not None
    ]
    if not pairs:
        return {}
    numbers, made, shown = zip(*pairs, strict=True)
    cosines = (unit(embed(made)) * unit(embed(shown))).sum(axis=1)
    values: dict[int, list[float]] = defaultdict(list)
    for i, cosine in zip(numbers, cosines.tolist(), strict=True):
        values[i].append(cosine)
    return {i: float(np.mean(several)) for i, several in values.items()}


def _prompts(embedders: Embedders, images: Images) -> Values:
    assert embedders.texts is not None
    texts = {i: _text(case) for i, (case, _) in images.items() if _text(case)}
    if not texts:
        return {}
    unique = list(dict.fromkeys(texts.values()))
    by_text = dict(zip(unique, unit(embedders.texts(unique)), strict=True))
    vectors = unit(embedders.images[CLIP]([images[i][1] for i in texts]))
    return {
        i: float(vector @ by_text[text])
        for (i, text), vector in zip(texts.items(), vectors, strict=True)
    }


def _text(case: Case) -> str:
    return ", ".join(normalised(tag) for tag in case.prompt if tag != FIRST_TAG)


class AnswerScale:
    """How near an answer is to another: 1 is the same, 0 is as near as others on average."""

    def __init__(
        self, embed: Callable[[Sequence[str]], np.ndarray], vocabulary: Mapping[str, Any]
    ) -> None:
        """Embeds the answers that a vocabulary knows."""
        self._embed, self._known = embed, dict[str, np.ndarray]()
        answers: dict[str, set[str]] = defaultdict(set)
        for entry in vocabulary["tags"].values():
            if entry["attribute"] in vocabulary["questions"]:
                answers[entry["attribute"]].add(normalised(entry["answer"]))
        self._chance = {}
        for name, found in answers.items():
            known = sorted(found | {NO} if YES in found else found)
            vectors = self._vectors(known)
            pairs = itertools.combinations(range(len(known)), 2)
            cosines = [vectors[a] @ vectors[b] for a, b in pairs]
            self._chance[name] = float(np.mean(cosines)) if cosines else 0.0

    def values(self, records: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> Values:
        """Returns the mean over the prompt's attributes; an answer that is no word counts 0."""
        found = {}
        for i in numbers:
            record = records[i]
            wanted = record.get("expected", {}).get("free", {})
            if wanted and not record["fault"]:
                pairs = [(name, text, record["given"][name]) for name, text in wanted.items()]
                found[i] = float(np.mean([self.similarity(*pair) for pair in pairs]))
        return found

    def similarity(self, attribute: str, wanted: str, given: str) -> float:
        """Returns the similarity of two answers to an attribute's question."""
        if not given:
            return 0.0
        first, second = self._vectors([wanted, given])
        chance = self._chance.get(attribute, 0.0)
        return float((first @ second - chance) / max(1 - chance, 1e-6))

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, unit(self._embed(new)), strict=True))
        return np.stack([self._known[text] for text in texts])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors [N, D] of length 1."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
