"""Measures whether the columns of the evaluation rank systems as their true quality does.

    python -m scripts.benchmarks.columns --size 64 --varied

The systems draw what a case asks for, with python_avatars, and are wrong in a known share of the
attributes: their true quality is what was drawn. The VQA model that ships answers. Printed is the
rank correlation (Spearman) of each column with the true quality, which should be 0.9 or more.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence

import numpy as np
import scipy.stats

from rbjax.evaluation import scoring, suite, truth
from rbjax.evaluation.baselines import SystemImages
from rbjax.evaluation.results import COLUMNS
from rbjax.evaluation.suite import Case, Suite
from rbjax.models.pixels import to_float
from rbjax.vqa.model import PACKAGED, VQA
from tfds_retribooru import clusters
from tfds_retribooru.avatars import attributes, characters, drawing, portraits
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.avatars.characters import Population
from tfds_retribooru.avatars.portraits import Portrait

LEVELS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # share of what a fault concerns that is wrong
FREE = tuple(attributes.names("free"))
FAULTS = {  # fault -> the columns that have to see it
    "free": ("vqa_flexibility", "p_yes"),
    "outfit": ("outfit_agreement",),
    "identity": ("identity_agreement",),
    "from references": ("leakage",),
    "one image": ("seed_diversity", "swd"),
}
UNCHANGED = ("graphic", "accessory", "nose")  # one garment has prints; some accessories hide eyes
NOT_DRAWN = ("none", "graphic shirt", "bald")  # values that show or hide other attributes
REQUIRED = 0.9


@dataclasses.dataclass(frozen=True)
class World:
    """Avatars of one split, drawn when they are needed.

    Attributes:
        avatars: what draws them.
        suite: what is asked for.
        size: of images, in pixels.
    """

    avatars: truth.Avatars
    suite: Suite
    size: int

    @classmethod
    def create(cls, people: int, *, size: int, varied: bool) -> "World":
        """Builds a suite of so many test characters."""
        everyone = characters.characters(Population())
        chosen = [person for person in everyone if person.split == "test"][:people]
        images = [p for person in chosen for p in portraits.portraits(0, person, varied=varied)]
        ids = [image.id for image in images]
        tags = [["solo", *attributes.tags(image.values)] for image in images]
        outfits = [[i for i in ids if int(i) // 4 == int(own) // 4] for own in ids]
        found = clusters.from_records(ids, [p.character.name for p in images], outfits)
        vocabulary = attributes.vocabulary()
        made = suite.build(
            found,
            tags,
            vocabulary,
            characters=people,
            per_character=2,
            faces=1,
            clothes=1,
            open_characters=people,
        )
        avatars = truth.Avatars(0, everyone, varied, vocabulary, ids.__getitem__)
        return cls(avatars, made, size)

    def read_images(self, positions: Sequence[int]) -> np.ndarray:
        """Draws records: float32 [N, size, size, 3] in [-1, 1]."""
        return np.stack([self._draw(self.avatars.portrait(position)) for position in positions])

    def generate(self, fault: str, level: float) -> tuple[np.ndarray, list[float]]:
        """Draws the cases of a system that is degraded; also the true quality of each image."""
        rng = np.random.default_rng([int(100 * level), len(fault)])
        images, quality = [], []
        for case in self.suite.cases:
            portrait, right = self._degraded(case, fault, level, rng)
            images.append(self._draw(portrait))
            quality.append(right)
        return np.stack(images), quality

    def _degraded(
        self, case: Case, fault: str, level: float, rng: np.random.Generator
    ) -> tuple[Portrait, float]:
        """Returns what is drawn, and the share of what the fault concerns that is right."""
        asked = self.avatars.asked(case)
        asked = dataclasses.replace(asked, frame=self.avatars.portrait(case.references[-1]).frame)
        if case.is_open:
            real = self.avatars.portrait(int(rng.choice(self.suite.variety[case.character])))
            for name in FREE:
                asked = truth.with_value(asked, name, real.values[name])
        concerned = self._concerned(case, fault, asked)
        shown, right = asked, []
        for name in concerned:
            is_wrong = bool(rng.random() < level)
            right.append(not is_wrong)
            if is_wrong:
                shown = truth.with_value(shown, name, self._wrong(case, fault, asked, name, rng))
        return shown, float(np.mean(right)) if right else np.nan

    def _concerned(self, case: Case, fault: str, asked: Portrait) -> list[str]:
        """Returns the attributes of an image that a fault concerns."""
        if fault == "one image":
            return list(FREE) if case.is_open else []
        if case.is_open:
            return []
        visible = attributes.visible(asked.values)
        if fault in ("free", "from references"):
            named = {self.avatars.vocabulary["tags"][tag]["attribute"] for tag in case.prompt[1:]}
            return [name for name in FREE if name in named]
        return [n for n in attributes.names(fault) if n in visible and n not in UNCHANGED]

    def _wrong(
        self, case: Case, fault: str, asked: Portrait, name: str, rng: np.random.Generator
    ) -> str:
        if fault == "from references":
            return self.avatars.portrait(int(rng.choice(case.references))).values[name]
        if fault == "one image":
            return list(ATTRIBUTES[name].values)[0]
        values = [v for v in ATTRIBUTES[name].values if v not in (asked.values[name], *NOT_DRAWN)]
        return str(rng.choice(values))

    def _draw(self, portrait: Portrait) -> np.ndarray:
        return to_float(np.asarray(drawing.rasterise(portrait, self.size)[0]))


def correlation(world: World, vqa: VQA, fault: str) -> dict[str, tuple[float, list[float]]]:
    """Returns for each column of a fault its rank correlation with the quality, and its values."""
    qualities, rows = [], []
    score = functools.partial(scoring.score, read_images=world.read_images, resamples=2)
    for level in LEVELS:
        images, quality = world.generate(fault, level)
        system = {"trained": SystemImages(images, world.suite.cases)}
        rows.append(score(system, world.suite, vqa)["rows"]["trained"])
        qualities.append(float(np.nanmean(quality)))
    found = {}
    for column in FAULTS[fault]:
        values = [row[column]["mean"] for row in rows]
        sign = -1 if column == "leakage" else 1
        rank = sign * scipy.stats.spearmanr(values, qualities).statistic
        found[column] = float(rank), values
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 where a column ranks too badly."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="pixels of the images")
    parser.add_argument("--characters", type=int, default=16)
    parser.add_argument("--varied", action="store_true", help="figures that move")
    parser.add_argument("--vqa", default=str(PACKAGED), help="folder of the VQA model")
    arguments = parser.parse_args(argv)
    world = World.create(arguments.characters, size=arguments.size, varied=arguments.varied)
    vqa = VQA.load(arguments.vqa)
    ranks = {}
    for fault in FAULTS:
        for column, (rank, values) in correlation(world, vqa, fault).items():
            ranks[column] = rank
            shown = " ".join(f"{100 * value:6.1f}" for value in values)
            print(f"{column:20} Spearman {rank:.3f}   {shown}")
    assert set(ranks) == set(COLUMNS)
    bad = [column for column, rank in ranks.items() if not rank >= REQUIRED]
    print(f"below {REQUIRED}: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
