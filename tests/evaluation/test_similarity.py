"""Similarity, where it is known what is similar; the models are stand-ins."""

import dataclasses

import numpy as np
import pytest

from rbjax.evaluation import baselines, regions, report, scoring, similarity
from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from rbjax.evaluation.embedders import Embedders
from rbjax.evaluation.similarity import Region
from tests.helpers.evaluation_world import vocabulary

WORDS: dict[str, int] = {}


def means(images):
    """Thirty means of parts of an image, around gray."""
    return np.stack([[part.mean() for part in np.array_split(i, 3)] + [0.1] for i in images])


def texts(rows):
    """A direction for each text."""
    return np.eye(64)[[WORDS.setdefault(row, len(WORDS)) for row in rows]]


@pytest.fixture
def suite(world):
    return suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=6, per_character=2, open_characters=2
    )


def measure(world, suite, vqa, images, models):
    systems = {"row": baselines.SystemImages(images, suite.cases)}
    scored = scoring.score(systems, suite, vqa, read_images=world.images, resamples=20)
    return similarity.of_systems(
        systems,
        models,
        read_images=world.images,
        region=regions.of_records(world.record),
        records=scored["scored"],
        vocabulary=suite.vocabulary,
        resamples=20,
    )


def test_there_are_columns_of_models_that_are_given(world, suite, vqa):
    images = world.images([case.references[0] for case in suite.cases])
    assert measure(world, suite, vqa, images, Embedders()) is None
    columns = measure(world, suite, vqa, images, Embedders({"DINO": means}))["row"].keys()
    assert columns == {"dino", "dino_face", "dino_clothes"}
    models = Embedders({"CLIP": lambda i: np.pad(means(i), ((0, 0), (0, 60)))}, texts, means)
    columns = measure(world, suite, vqa, images, models)["row"].keys()
    more = {"clip_t", "face_distance", "answer_similarity"}
    assert columns == {"clip_i", "clip_i_face", "clip_i_clothes", *more}


def test_a_copy_of_the_only_reference_is_most_similar(world, suite, vqa):
    cases = tuple(
        dataclasses.replace(c, references=c.references[:1], concepts=c.concepts[:1])
        for c in suite.cases
    )
    only = dataclasses.replace(suite, cases=cases)
    models = Embedders({"DINO": means}, faces=means)
    copies = measure(world, only, vqa, world.images([c.references[0] for c in cases]), models)[
        "row"
    ]
    assert copies["dino"]["mean"] == copies["dino_face"]["mean"] == pytest.approx(1)
    assert copies["face_distance"]["mean"] == pytest.approx(0, abs=1e-6)
    assert copies["dino_clothes"] is None  # no such reference
    others = measure(world, only, vqa, world.generate(cases), models)["row"]
    assert others["dino"]["mean"] < 1
    assert copies["dino"]["unscored"] == 0


def test_what_is_not_finite_is_counted_and_not_scored(world, suite, vqa):
    images = world.generate(suite.cases)
    images[0] = np.nan
    cells = measure(world, suite, vqa, images, Embedders({"DINO": means}))["row"]
    assert cells["dino"]["unscored"] == cells["dino_face"]["unscored"] == 1
    nothing = measure(world, suite, vqa, np.full_like(images, np.nan), Embedders({"DINO": means}))
    assert set(nothing["row"].values()) == {None}


def test_right_answers_are_1_and_others_0_on_average(world, suite, vqa):
    models = Embedders({"CLIP": means}, texts)
    models = Embedders({"CLIP": lambda images: np.ones((len(images), 64))}, texts)
    right = measure(world, suite, vqa, world.generate(suite.cases), models)["row"]
    assert right["answer_similarity"]["mean"] == pytest.approx(1)
    scale = similarity.AnswerScale(texts, vocabulary())
    assert scale.similarity("mouth", "smile", "frown") == pytest.approx(0)
    assert scale.similarity("mouth", "smile", "") == 0
    near = similarity.AnswerScale(lambda rows: np.array([[1, len(r)] for r in rows]), vocabulary())
    values = vocabulary()["tags"]
    mouths = [e["answer"] for e in values.values() if e["attribute"] == "mouth"]
    pairs = [near.similarity("mouth", a, b) for a in mouths for b in mouths if a != b]
    assert np.mean(pairs) == pytest.approx(0, abs=1e-9)


def test_the_prompt_s_similarity_is_that_of_its_text(world, suite, vqa):
    asked = []
    models = Embedders(
        {"CLIP": lambda images: np.ones((len(images), 2))},
        lambda rows: asked.extend(rows) or np.array([[1.0, 1.0]] * len(rows)),
    )
    cells = measure(world, suite, vqa, world.generate(suite.cases), models)["row"]
    assert cells["clip_t"]["mean"] == pytest.approx(1)
    prompts = {", ".join(c.prompt[1:]) for c in suite.cases if c.prompt}
    assert prompts <= set(asked)


def test_a_region_is_where_the_record_shows_the_concept():
    image = np.zeros((10, 10, 3), np.float32)
    image[2:5, 4:9] = 1
    assert (Region(0.4, 0.2, 0.9, 0.5).of(image) == 1).all()
    assert Region(0.4, 0.2, 0.9, 0.5).of(image).shape == (3, 5, 3)
    assert Region(0.99, 0.99, 1, 1).of(image).shape == (1, 1, 3)
    assert regions.in_square((0, 0, 20, 40), (20, 40)) == (0.25, 0, 0.75, 1)


def test_copying_of_faces_is_measured_on_faces(world, suite):
    find = regions.of_records(world.record)
    cases = [c for c in suite.cases if c.real is not None and not c.is_open]

    def read(positions):
        """Images whose faces are their own: those of a character are equal in this world."""
        images = world.images(positions)
        for image, position in zip(images, positions, strict=True):
            image[:3] = np.random.default_rng(position).uniform(-1, 1, (3, 1, 1))
        return images

    def look(images):
        return images[:, ::8, 0, 0]

    for positions, value in (([c.references[0] for c in cases], 1), ([c.real for c in cases], -1)):
        images = read(positions)
        images[:, 4:] = 0  # not of the face
        system = {"row": baselines.SystemImages(images, tuple(cases))}
        cell = regions.copying_of_faces(system, read, find, look)["row"]
        assert cell["mean"] == pytest.approx(value, abs=0.01) and cell["unscored"] == 0
    bare = tuple(dataclasses.replace(c, real=None) for c in cases)
    system = {"row": baselines.SystemImages(images, bare)}
    assert regions.copying_of_faces(system, read, find, look) == {"row": None}


def test_the_report_shows_the_columns(world, suite, vqa, tmp_path):
    images = world.generate(suite.cases)
    systems = {"trained": baselines.SystemImages(images, suite.cases)}
    results = scoring.score(systems, suite, vqa, read_images=world.images, resamples=20)
    found = measure(world, suite, vqa, images, Embedders({"DINO": means}))
    results["similarity"] = {"trained": found["row"]}
    page = report.write(tmp_path, results, systems, read_images=world.images).read_text()
    assert "DINO clothes" in page and "in the features of DINO" in page
    assert "DINO face" in similarity.table(results["similarity"])
    assert results_lib.dumps(results)
    del results["similarity"]
    assert (
        "DINO" not in report.write(tmp_path, results, systems, read_images=world.images).read_text()
    )
