"""How often the VQA model is right, by attribute and size."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rbjax.models.blip import BlipForQuestionAnswering
from rbjax.vqa.framing import SIZES, size_matrix, warp
from rbjax.vqa.training_data import Images, Texts

REQUIRED = 0.95  # accuracy below which an attribute is not asked at a size
KINDS = ("what", "is there")


def measure_all(
    model: BlipForQuestionAnswering, images: dict[str, Images], texts: Texts
) -> dict[str, Any]:
    """Returns the content of `accuracy.json`, from the images of each config."""
    return report({config: measure(model, part, texts) for config, part in images.items()})


def report(accuracy: dict[str, Any]) -> dict[str, Any]:
    """Returns accuracies by config, and where in all of them each kind of question is reliable."""
    asked, phrases = (reliable([kinds[kind] for kinds in accuracy.values()]) for kind in KINDS)
    return {"asked": asked, "phrases": phrases, "accuracy": accuracy}


def reliable(accuracies: Sequence[dict[str, dict[int, float]]]) -> dict[str, list[int]]:
    """Returns the sizes at which each attribute reaches the required accuracy everywhere."""
    return {
        name: [size for size in row if all(a[name][size] >= REQUIRED for a in accuracies)]
        for name, row in accuracies[0].items()
    }


def measure(
    model: BlipForQuestionAnswering,
    images: Images,
    texts: Texts,
    *,
    sizes: Sequence[int] = SIZES,
    batch_size: int = 50,
) -> dict[str, dict[str, dict[int, float]]]:
    """Returns {kind of question: {attribute: {size: accuracy}}} over the visible attributes.

    A "what" answer is right if all its tokens are; "is there" is asked once of the true and once
    of a wrong tag of the same attribute.
    """
    result: dict[str, dict[str, dict[int, float]]]
    result = {kind: {name: {} for name in texts.attributes} for kind in KINDS}
    for size in sizes:
        hits = np.zeros((len(KINDS), len(texts.attributes)))
        matrix = jnp.asarray(size_matrix(size, model.config.vision.image_size), jnp.float32)
        for start in range(0, len(images.pixels), batch_size):
            part = slice(start, start + batch_size)
            warped = warp(images.pixels[part], matrix, matrix)
            shift = start // batch_size
            hits += correct_answers(
                model, warped, labels=images.labels[part], texts=texts, shift=shift
            )
        shares = hits / np.maximum((images.labels >= 0).sum(axis=0), 1)
        for kind, row in zip(KINDS, shares, strict=True):
            for name, share in zip(texts.attributes, row, strict=True):
                result[kind][name][size] = round(float(share), 4)
    return result


def correct_answers(
    model: BlipForQuestionAnswering,
    images: jax.Array,
    *,
    labels: np.ndarray,
    texts: Texts,
    shift: int,
) -> np.ndarray:
    """Counts correct answers: [2 kinds, A]; a phrase counts half, because there are two.

    Args:
        model: is asked.
        images: [B, S, S, 3].
        labels: [B, A], negative where nothing is asked.
        texts: tables of questions and answers.
        shift: which other value of an attribute the wrong phrase names.
    """
    columns, visible, value = np.arange(labels.shape[1]), labels >= 0, np.maximum(labels, 0)
    counts = np.array([len(values) for values in texts.values])
    wrong_value = (value + 1 + shift % (counts - 1)) % counts
    questions = np.broadcast_to(texts.questions, (len(labels), *texts.questions.shape))
    true, wrong = texts.phrases[columns, value], texts.phrases[columns, wrong_value]
    expected = texts.answers[columns, value]
    asked = np.concatenate([questions, true, wrong], axis=1)
    answers = np.concatenate([expected] * 3, axis=1)
    logits = np.asarray(
        logits_of(model, images, questions=jnp.asarray(asked), answers=jnp.asarray(answers))
    )
    what, true, wrong = np.split(logits, 3, axis=1)
    no, yes = texts.yes_no[:, 0]
    phrases = (true[:, :, 0, yes] > true[:, :, 0, no]) * 0.5 + (
        wrong[:, :, 0, yes] < wrong[:, :, 0, no]
    ) * 0.5
    correct = ((what.argmax(-1) == expected) | (expected < 0)).all(-1)
    return np.stack([(correct & visible).sum(axis=0), (phrases * visible).sum(axis=0)])


@nnx.jit
def logits_of(
    model: BlipForQuestionAnswering,
    images: jax.Array,
    *,
    questions: jax.Array,
    answers: jax.Array,
) -> jax.Array:
    """Returns logits [B, Q, L, V] of answers [B, Q, L] to questions [B, Q, T] about images [B].

    Each token of an answer is predicted from those before it.
    """
    start = jnp.full((*answers.shape[:2], 1), model.config.text.bos_token_id, jnp.int32)
    inputs = jnp.concatenate([start, jnp.maximum(answers[..., :-1], 0)], axis=-1)
    flat = questions.reshape(-1, questions.shape[-1])
    logits = model(images, flat, flat != 0, inputs.reshape(len(flat), -1))
    return logits.reshape(*answers.shape, -1)


def table(measured: dict[str, Any]) -> str:
    """Returns accuracies in percent as Markdown; what is asked of images of a size is bold.

    Args:
        measured: content of `accuracy.json`, with the key "test".
    """
    largest, (centered, varied) = max(SIZES), ("centered", "varied")
    lines = [
        f'| attribute | {" | ".join(f"{size} px" for size in SIZES)} | "is there", {largest} px | '
        f"`{centered}`, {largest} px | `test`, {largest} px |",
        "| --- " + "| ---: " * (len(SIZES) + 3) + "|",
    ]
    shares: list[list[float]] = []
    for name in measured["asked"]:
        what, phrase = (measured["accuracy"][varied][kind][name] for kind in KINDS)
        fixed = measured["accuracy"][centered]["what"][name][largest]
        row = [*what.values(), phrase[largest], fixed]
        row.append(measured["test"][varied]["what"][name][largest])
        bold = [size in measured["asked"][name] for size in SIZES]
        bold += [largest in measured["phrases"][name], False, False]
        cells = (_cell(share, is_bold=is_bold) for share, is_bold in zip(row, bold, strict=True))
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
        shares.append(row)
    means = " | ".join(f"{100 * share:.1f}" for share in np.mean(shares, axis=0))
    return "\n".join([*lines, f"| mean | {means} |"])


def _cell(share: float, *, is_bold: bool) -> str:
    text = f"{100 * share:.1f}"
    return f"**{text}**" if is_bold else text
