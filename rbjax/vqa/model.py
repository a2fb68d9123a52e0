"""The VQA model that is asked about images: a BLIP-VQA, its tokenizer, its measured accuracy.

Axes: N images, Q questions, D width of an embedding.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax import nnx
from jax.typing import ArrayLike

from rbjax.interop import huggingface
from rbjax.models.blip import BlipForQuestionAnswering
from rbjax.vqa import questions as questions_lib

PACKAGED = Path(__file__).parent.parent / "weights" / "vqa"
_BATCH = 32  # images in a compiled call; the last batch is padded
_QUESTIONS = 8  # the number of questions is padded to a multiple of this
_MAX_NEW_TOKENS = 4


def resize(images: ArrayLike, size: int) -> jax.Array:
    """Resizes [N, H, W, 3] to [N, size, size, 3], linearly and with anti-aliasing."""
    images = jnp.asarray(images)
    shape = (images.shape[0], size, size, 3)
    return jax.image.resize(images, shape, "linear", antialias=True)


class VQA:
    """A BLIP-VQA model with its tokenizer and what is known of its accuracy.

    Attributes:
        accuracy: content of `accuracy.json`.
        asked: attribute to the sizes at which its answers to "what ...?" are reliable.
        phrases: attribute to the sizes at which its answers to "is there ...?" are reliable.
    """

    def __init__(
        self,
        model: BlipForQuestionAnswering,
        tokenizer: tokenizers.Tokenizer,
        accuracy: dict[str, Any],
    ) -> None:
        """Prepares, without compiling; see `load`."""
        self.accuracy = accuracy
        self.asked = {name: tuple(sizes) for name, sizes in accuracy["asked"].items()}
        self.phrases = {name: tuple(sizes) for name, sizes in accuracy["phrases"].items()}
        self._tokenizer = tokenizer
        self._size = model.config.vision.image_size
        self._length = model.config.text.max_position_embeddings
        self._text = model.config.text
        self._words = _whiten(model.text_decoder.bert.embeddings.word_embeddings.embedding[...])
        ids = tokenizer.get_vocab()
        self._unknown = ids["[UNK]"]
        graph, self._state = nnx.split(model)
        self._generate = jax.jit(partial(_generate, graph))
        self._yes = jax.jit(partial(_yes, graph, (ids["yes"], ids["no"])))

    @classmethod
    def load(cls, folder: str | Path = PACKAGED) -> "VQA":
        """Reads `config.json`, `model.safetensors`, `tokenizer.json` and `accuracy.json`.

        Raises:
            FileNotFoundError: one of them is missing.
            ValueError: the weights do not fit the config, or are not of a BLIP-VQA.
        """
        folder = Path(folder).expanduser()
        for name in ("tokenizer.json", "accuracy.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"No {name} in {folder}; scripts/train_vqa.py writes it.")
        model = huggingface.load(folder, dtype=np.dtype(np.float32))
        if not isinstance(model, BlipForQuestionAnswering):
            raise ValueError(f"{folder} holds a {type(model).__name__}, not a BLIP-VQA.")
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(model, tokenizer, json.loads((folder / "accuracy.json").read_text()))

    def asked_at(self, size: int) -> set[str]:
        """Returns the attributes that images of `size` pixels may be asked about."""
        return questions_lib.asked_at(size, self.asked)

    def phrases_at(self, size: int) -> set[str]:
        """Returns the attributes about whose tags "is there TAG?" may be asked at `size` pixels."""
        return questions_lib.asked_at(size, self.phrases)

    def answers(self, images: np.ndarray, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """Answers each image's questions greedily.

        Args:
            images: float32 [N, H, W, 3] in [-1, 1], of any size.
            questions: for each image its questions; their number may differ.
        """
        return [
            [self._tokenizer.decode(row.tolist()) for row in tokens]
            for tokens in self._each(self._generate, images, questions)
        ]

    def probability_yes(
        self, images: np.ndarray, phrases: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Returns for each image P(yes) / (P(yes) + P(no)) of each of its phrases.

        Args:
            images: float32 [N, H, W, 3] in [-1, 1], of any size.
            phrases: for each image what may be in it, such as "red hair"; their number may differ.
        """
        asked = [[questions_lib.yes_or_no(phrase) for phrase in row] for row in phrases]
        return self._each(self._yes, images, asked)

    def embed(self, answers: Sequence[str]) -> np.ndarray:
        """Returns float32 [len(answers), D]: equal answers have cosine 1, unrelated ones about 0.

        An answer is the mean of its words' embeddings in the decoder, centred and whitened over the
        vocabulary: as they are, all words of a kind (such as colours) point one way. No word counts
        as [UNK].
        """
        ids = [self._tokenizer.encode(a, add_special_tokens=False).ids for a in answers]
        rows = [self._words[row or [self._unknown]].mean(axis=0) for row in ids]
        return np.array(rows, np.float32).reshape(len(answers), self._words.shape[1])

    def tokenize(self, questions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns token ids and mask, both int32 [len(questions), T].

        Raises:
            ValueError: a question is longer than the model reads.
        """
        ids = np.full((len(questions), self._length), self._text.pad_token_id, np.int32)
        for row, question in zip(ids, questions, strict=True):
            tokens = self._tokenizer.encode(question).ids
            if len(tokens) > len(row):
                raise ValueError(
                    f"{question!r} has {len(tokens)} tokens; the model reads {len(row)}."
                )
            row[: len(tokens)] = tokens
        return ids, (ids != self._text.pad_token_id).astype(np.int32)

    def _each(
        self,
        function: Callable[..., jax.Array],
        images: np.ndarray,
        questions: Sequence[Sequence[str]],
    ) -> list[np.ndarray]:
        """Returns for each image the rows of `function`, which runs in batches of one shape.

        Args:
            function: jitted (state, images [_BATCH, S, S, 3], ids, mask) -> [_BATCH * Q, ...].
            images: [N, H, W, 3].
            questions: for each image its questions.
        """
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or len(images) != len(questions):
            raise ValueError(
                f"Expected images [N, H, W, 3] and N lists of questions, got {images.shape} and "
                f"{len(questions)} lists."
            )
        longest = max(map(len, questions), default=0)
        width = max(1, -(-longest // _QUESTIONS)) * _QUESTIONS
        results = []
        for start in range(0, len(images), _BATCH):
            part = questions[start : start + _BATCH]
            padded = [[*row, *[""] * (width - len(row))] for row in part]
            padded += [[""] * width] * (_BATCH - len(part))
            ids, mask = self.tokenize([question for row in padded for question in row])
            batch = resize(_pad(images[start : start + _BATCH]), self._size)
            out = np.asarray(function(self._state, batch, ids, mask)).reshape(_BATCH, width, -1)
            results += [out[i, : len(row)] for i, row in enumerate(part)]
        return [row.squeeze(-1) if row.shape[-1] == 1 else row for row in results]


def _whiten(embedding: jax.Array) -> np.ndarray:
    """Centres [V, D] and gives it equal variance in all directions that it spans."""
    rows = np.asarray(embedding, np.float64)
    rows = rows - rows.mean(axis=0)
    variances, axes = np.linalg.eigh(rows.T @ rows)
    spanned = variances > 1e-6 * variances[-1]
    return rows @ (axes[:, spanned] / np.sqrt(variances[spanned]))


def _pad(images: np.ndarray) -> np.ndarray:
    return np.pad(images, ((0, _BATCH - len(images)), (0, 0), (0, 0), (0, 0)))


def _generate(
    graph: nnx.GraphDef, state: nnx.State, images: jax.Array, ids: jax.Array, mask: jax.Array
) -> jax.Array:
    """Returns the tokens of answers, int32 [B * Q, 1 + _MAX_NEW_TOKENS]."""
    return nnx.merge(graph, state).generate(images, ids, mask, max_new_tokens=_MAX_NEW_TOKENS)


def _yes(
    graph: nnx.GraphDef,
    yes_no: tuple[int, int],
    state: nnx.State,
    images: jax.Array,
    ids: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """Returns P(yes) / (P(yes) + P(no)) of questions, float32 [B * Q]."""
    model = nnx.merge(graph, state)
    start = jnp.full((len(ids), 1), model.config.text.bos_token_id, jnp.int32)
    logits = model(images, ids, mask, start)[:, 0]
    return nnx.sigmoid(logits[:, yes_no[0]] - logits[:, yes_no[1]])
