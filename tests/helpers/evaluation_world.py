"""A world whose images say what they show: each row of pixels holds the index of one value."""

import itertools

import numpy as np

from rbjax.evaluation import baselines, no_learning, scoring
from rbjax.text.concepts import CLOTHES, FACE
from tfds_retribooru import clusters

COLOURS = "red green blue brown white black pink cyan gray orange yellow purple".split()
VALUES = {
    "hair": ("identity", ["bob cut", "mohawk", "afro"], "{}"),
    "hair_color": ("identity", COLOURS, "{} hair"),
    "accessory": ("identity", ["white sunglasses"], "{}"),
    "clothing": ("outfit", ["robe", "hoodie", "shirt"], "{}"),
    "clothing_color": ("outfit", COLOURS, "{} clothes"),
    "eyes": ("free", ["open", "closed", "wide", "heart", "dizzy", "sad"], "{} eyes"),
    "mouth": ("free", ["smile", "frown", "scream", "tongue out", "pout", "grin"], "{}"),
    "background": ("free", COLOURS, "{} background"),
}
NAMES = list(VALUES)
NOTHING = "nothing"
SIZE = 10


def vocabulary() -> dict:
    tags = {
        pattern.format(value): {"attribute": name, "answer": value, "kind": kind}
        for name, (kind, values, pattern) in VALUES.items()
        for value in values
    }
    return {"tags": tags, "questions": {name: f"what about the {name}?" for name in NAMES}}


def draw_image(answers: dict[str, str]) -> np.ndarray:
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    for name, answer in answers.items():
        image[NAMES.index(name)] = (1 + VALUES[name][1].index(answer)) / 16
    return image


class ReadingVQA:
    """Reads the pixels; where they hold no value, it says `nothing`."""

    def __init__(self, asked=NAMES, phrases=NAMES, nothing=NOTHING, words=9, unknown=()):
        self.asked, self.phrases, self.nothing = set(asked), set(phrases), nothing
        self.words = words  # of the longest question that it reads
        self.unknown = unknown  # phrases

    def asked_at(self, size):
        assert size == SIZE
        return self.asked | {"unknown to the data set"}

    def phrases_at(self, size):
        return self.asked & self.phrases

    def knows(self, phrase):
        return phrase not in self.unknown

    def can_read(self, question):
        return len(question.split()) <= self.words

    def read(self, image, name):
        index, values = round(float(image[NAMES.index(name), 0, 0]) * 16), VALUES[name][1]
        return values[index - 1] if 0 < index <= len(values) else self.nothing

    def answers(self, images, questions):
        names = {text: name for name, text in vocabulary()["questions"].items()}
        pairs = zip(images, questions, strict=True)
        return [[self.read(image, names[text]) for text in texts] for image, texts in pairs]

    def ask(self, images, questions, phrases):
        return self.answers(images, questions), self.probability_yes(images, phrases)

    def probability_yes(self, images, phrases):
        entries = vocabulary()["tags"]
        return [
            [
                0.9 if self.read(i, entries[p]["attribute"]) == entries[p]["answer"] else 0.1
                for p in ps
            ]
            for i, ps in zip(images, phrases, strict=True)
        ]


class World:
    """Characters x outfits x images, and a model that obeys (or does what a test says)."""

    def __init__(self, sizes=((4, 4, 4),) * 12, seed=0):
        rng = np.random.default_rng(seed)
        self.answers, characters, outfits = [], [], []
        number = itertools.count()
        for character, images in enumerate(sizes):
            identity = self.draw(rng, "identity", skip=() if character % 3 == 0 else ("accessory",))
            for count in images:
                outfit, index = self.draw(rng, "outfit"), next(number)
                for _ in range(count):
                    hidden = ("eyes",) if "accessory" in identity else ()
                    self.answers.append({**identity, **outfit, **self.draw(rng, "free", hidden)})
                    characters.append(character)
                    outfits.append(index)
        self.tags = [self.name(answers) for answers in self.answers]
        ids = [str(position) for position in range(len(outfits))]
        partners = [
            [i for i, o in zip(ids, outfits, strict=True) if o == outfit] for outfit in outfits
        ]
        names = [f"{character:03d}" for character in characters]
        self.clusters = clusters.from_records(ids, names, partners)

    @staticmethod
    def draw(rng, kind, skip=()):
        return {
            name: str(rng.choice(values))
            for name, (of, values, _) in VALUES.items()
            if of == kind and name not in skip
        }

    @staticmethod
    def name(answers):
        return ["solo", *(VALUES[name][2].format(answer) for name, answer in answers.items())]

    def images(self, positions):
        return np.stack([draw_image(self.answers[position]) for position in positions])

    def record(self, position):
        """The face is the first three rows: what is of the identity; the clothes are all below."""
        image = np.round((self.images([position])[0] + 1) * 127.5).astype(np.uint8)
        bbox = np.array([0.5, 0.15, 1.0, 0.3], np.float32)
        return {"image": image, "bbox": bbox, "has_mask": False}

    def real_data(self):
        training = no_learning.TrainingImages(self.tags, self.images)
        return baselines.RealData(self.images, self.record, training)

    def generate(self, cases, *, blank=False, references_of=None):
        """Obeys prompt and references."""
        pairs = zip(cases, references_of or cases, strict=True)
        return np.stack([self.compose(case, blank, source) for case, source in pairs])

    def evaluate(self, suite, vqa, systems=baselines.SYSTEMS, *, generate=None, resamples=50):
        """Makes and scores the images of systems."""
        images = baselines.collect(generate or self.generate, suite, self.real_data(), systems)
        return scoring.score(images, suite, vqa, read_images=self.images, resamples=resamples)

    def compose(self, case, blank, source):
        entries = vocabulary()["tags"]
        answers = {entries[t]["attribute"]: entries[t]["answer"] for t in case.prompt[1:]}
        kinds = {FACE: "identity", CLOTHES: "outfit"}
        pairs = [] if blank else zip(source.references, source.concepts, strict=True)
        for position, concept in pairs:
            for name, answer in self.answers[position].items():
                if VALUES[name][0] == kinds[concept]:
                    answers[name] = answer
        return draw_image(answers)
