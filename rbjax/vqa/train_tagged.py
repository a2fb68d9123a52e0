"""Trains a VQA model on the tags of any data set, and measures it on its `validation` split.

Questions are made from tags by rule (tag_questions.py). The model is small and new; or it is one
that `scripts/train_vqa.py` wrote, whose words are completed; or a BLIP-VQA of transformers, which
keeps its tokenizer and image processor. Images are cropped at random, mirrored, reduced and
blurred. As for the avatars, the vision model first learns to tag, then the entire model to answer.

What may be asked is what agrees with the tags of real images (`judge.measure`); it is measured once
more where images of a size are evaluated.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from rbjax.data import dataset as dataset_lib
from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.interop import hub_cache, huggingface
from rbjax.models.blip import BlipForQuestionAnswering
from rbjax.models.pixels import to_float
from rbjax.text.bert_tokenizer import bert_tokenizer
from rbjax.text.concepts import CHARACTER
from rbjax.vqa import judge, preprocessing, tag_questions, tagged_data
from rbjax.vqa.losses import ModelAndTagger, answer_loss, tagging_loss
from rbjax.vqa.model import ACCURACY, VQA, Preprocess
from rbjax.vqa.preprocessing import SIDE, BlipImageProcessor, SquareResize
from rbjax.vqa.tagged_data import Counts, Tagged
from rbjax.vqa.train import CHECKPOINT, TrainOptions, blip_config, fit, write
from rbjax.vqa.training_data import Sample, Texts

TOKENS = 64  # of a question, at most, of a new model: prompts have tags that training has not
NOT_COPIED = ("config.json", ACCURACY)  # of a folder of transformers; weights have other endings


@dataclasses.dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        model: with its weights.
        texts: tables of questions and answers, in the model's tokens.
        processor: of a model of transformers; None: images are in [-1, 1].
    """

    model: BlipForQuestionAnswering
    texts: Texts
    processor: BlipImageProcessor | None

    @property
    def side(self) -> int:
        """Pixels to which data is decoded: those of the model, or of a small one's squares."""
        return SIDE if self.processor is None else self.model.config.vision.image_size

    @property
    def preprocess(self) -> Preprocess:
        """What makes the model's images."""
        return self.processor or SquareResize(self.model.config.vision.image_size)

    def normalised(self, images: jax.Array) -> jax.Array:
        """Returns images [N, S, S, 3] in [-1, 1] as the model reads them."""
        if self.processor is None:
            return images
        scaled = (images + 1) * 127.5 * self.processor.scale
        return (scaled - np.array(self.processor.mean)) / np.array(self.processor.std)


def main(options: TrainOptions) -> None:
    """Trains on `options.dataset`, measures, writes the folder `options.out`.

    Raises:
        ValueError, FileNotFoundError: there is no such data set, it has no split `validation`, its
            tags cannot be asked about, or the folder of `options.init` does not fit.
    """
    if options.init:
        options = dataclasses.replace(options, init=hub_cache.model_folder(options.init))
    name = options.dataset or "avatars"
    if name.split("/")[0] == "avatars":
        raise ValueError("--dataset=avatars: leave it out; they have a training of their own")
    if options.out == TrainOptions().out:
        raise ValueError("--out is missing: a folder for this VQA model")
    builder = dataset_lib.prepare(name, str(options.data_dir or ""))
    train, validation = (dataset_lib.open_split(builder, n) for n in ("train", "validation"))
    vocabulary = tag_questions.complete(train.vocabulary)
    counts = tagged_data.count_answers(train.tags, vocabulary)
    start = begin(options, counts, vocabulary)
    names = ", ".join(start.texts.attributes)
    print(f"{len(start.texts.attributes)} attributes are learned: {names}", flush=True)
    run(start, train, validation, vocabulary=vocabulary, options=options)


def run(
    start: Start,
    train: Split,
    validation: Split,
    *,
    vocabulary: Mapping[str, Any],
    options: TrainOptions,
) -> None:
    """Trains, measures and writes.

    Args:
        start: what is trained.
        train: teaches.
        validation: decides what may be asked.
        vocabulary: of `tag_questions.complete`.
        options: settings.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(start, options)
    labels = tagged_data.label(train.tags, start.texts)
    rates = tagged_data.keep_rates(labels, start.texts.answers.shape[1])
    data = Tagged(_crops(train, start), labels, rates)
    read = _crops(validation, start)

    def check() -> None:
        measured = _measure(start, vocabulary, validation.tags, read)
        may = sum(found["agreement"] >= judge.REQUIRED for found in measured.values())
        mean = np.mean([found["agreement"] for found in measured.values()] or [0.0])
        print(f"validation: agreement {100 * mean:.1f}, {may} attributes may be asked", flush=True)
        known = {"dataset": options.dataset, "split": validation.name, "measured": measured}
        write(start.model, {"asked": {}, "phrases": {}, **known}, options.out)
        (options.out / "agreement.md").write_text(judge.table(measured) + "\n")

    normalised = start.normalised
    fit(
        start.model,
        partial(_draw, data, start, options),
        texts=start.texts,
        options=options,
        check=check,
        losses=(_of(tagging_loss, normalised), _of(answer_loss, normalised)),
    )
    check()
    (options.out / CHECKPOINT).unlink(missing_ok=True)
    print((options.out / "agreement.md").read_text())


def begin(options: TrainOptions, counts: Counts, vocabulary: Mapping[str, Any]) -> Start:
    """Builds the model of a training and reads the weights that it starts from.

    Args:
        options: settings; sizes are those of the weights, where there are some.
        counts: of `tagged_data.count_answers`.
        vocabulary: of `tag_questions.complete`.
    """
    folder = options.init
    processor = preprocessing.find(folder) if folder else None
    if folder is None or processor is None:
        texts = tagged_data.build_texts(counts, vocabulary)
        return Start(_small_model(options, texts), texts, None)
    model = _loaded(folder)
    texts = tagged_data.build_texts(counts, vocabulary, bert_tokenizer(folder))
    if model.config.text.pad_token_id:
        raise ValueError(f"{folder}: pad_token_id must be 0, as of BERT's tokenizers")
    return Start(model, texts, processor)


def _loaded(folder: Path) -> BlipForQuestionAnswering:
    model = huggingface.load(folder, dtype=np.dtype(np.float32))
    if not isinstance(model, BlipForQuestionAnswering):
        raise ValueError(f"--init={folder} holds a {type(model).__name__}, not a BLIP-VQA")
    return model


def _small_model(options: TrainOptions, texts: Texts) -> BlipForQuestionAnswering:
    """Returns a new model, or one of `scripts/train_vqa.py` with rows for new words."""
    config = blip_config(options, texts)
    config = dataclasses.replace(
        config, text=dataclasses.replace(config.text, max_position_embeddings=TOKENS)
    )
    if options.init is None:
        return BlipForQuestionAnswering(config, nnx.Rngs(options.seed))
    old = _loaded(options.init)
    sizes = {
        name: getattr(config.text, name)
        for name in ("vocab_size", "max_position_embeddings", "bos_token_id", "pad_token_id")
    }
    text = dataclasses.replace(old.config.text, sep_token_id=config.text.sep_token_id, **sizes)
    model = BlipForQuestionAnswering(
        dataclasses.replace(old.config, text=text), nnx.Rngs(options.seed)
    )
    words = bert_tokenizer(options.init).get_vocab()
    rows = {i: words[w] for w, i in texts.tokenizer.get_vocab().items() if w in words}
    tensors = huggingface.state_dict(model)
    for key, value in huggingface.state_dict(old).items():
        if value.shape == tensors[key].shape and "word_embeddings" not in key:
            tensors[key] = value
        elif "position_embeddings" in key:
            tensors[key][: len(value)] = value[:TOKENS]
        else:  # of words
            tensors[key] = tensors[key].copy()
            tensors[key][list(rows)] = value[list(rows.values())]
    huggingface.load_state_dict(model, tensors)
    return model


def _write_tokenizer(start: Start, options: TrainOptions) -> None:
    """Writes what `VQA.load` reads beside the weights."""
    if start.processor is None or options.init is None:
        start.texts.tokenizer.save(str(options.out / "tokenizer.json"))
        return
    for path in options.init.iterdir():
        is_text = path.suffix in (".json", ".txt") and not path.name.endswith(".index.json")
        if is_text and path.name not in NOT_COPIED and options.out != options.init:
            shutil.copyfile(path, options.out / path.name)


def _crops(split: Split, start: Start) -> ConceptCrops:
    return ConceptCrops(split, size=start.side, view="crop", cache=False)


def _of(
    loss: Callable[..., jax.Array], normalised: Callable[[jax.Array], jax.Array]
) -> Callable[..., jax.Array]:
    """Returns a loss of images in [-1, 1]."""

    def of_images(modules: ModelAndTagger, images: jax.Array, **targets: jax.Array) -> jax.Array:
        return loss(modules, normalised(images), **targets)

    return of_images


def _draw(data: Tagged, start: Start, options: TrainOptions, count: int, *, asks: bool) -> Sample:
    """Returns the batch of a step, a function of the seed and the step."""
    rng = np.random.default_rng([options.seed, count])
    vision = start.model.config.vision
    pixels, warps, targets = data.sample(
        rng,
        count=options.batch_size,
        target=vision.image_size,
        patches=(vision.image_size // vision.patch_size) ** 2,
    )
    if asks:
        questions, answers = tagged_data.choose_questions(
            np.asarray(targets["labels"]),
            start.texts,
            rng,
            what=options.questions,
            phrases=options.phrases,
        )
        targets |= {"questions": questions, "answers": answers}
    return pixels, warps, targets


def _measure(
    start: Start, vocabulary: Mapping[str, Any], tags: Sequence[Sequence[str]], crops: ConceptCrops
) -> dict[str, dict[str, Any]]:
    """Returns what `judge.measure` says of the model as it is, of questions that it can read."""
    nothing: dict[str, Any] = {"asked": {}, "phrases": {}}
    vqa = VQA(start.model, start.texts.tokenizer, preprocess=start.preprocess, accuracy=nothing)
    questions = {n: text for n, text in vocabulary["questions"].items() if vqa.can_read(text)}
    return judge.measure(
        vqa,
        {**vocabulary, "questions": questions},
        tags,
        lambda positions: to_float(np.stack([crops[p, CHARACTER] for p in positions])),
    )
