"""The VQA model that judges images: a BLIP-VQA with its tokenizer and its measured accuracy.

Axes: N images, Q questions, D width of an embedding.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering
from rbjax.models.params import shapes
from rbjax.vqa import questions as questions_lib

PACKAGED = Path(__file__).parent.parent / "weights" / "vqa"


_BATCH = 32  # images in a compiled call; the last batch is padded


_QUESTIONS = 8  # the number of questions is padded to a multiple of this


_MAX_NEW_TOKENS = 4


def resize(images: jax.Array, size: int) -> jax.Array:
    """Resizes [N, H, W, 3] to [N, size, size, 3], linearly and with anti-aliasing."""
    shape = (images.shape[0], size, size, 3)
    return jax.image.resize(images, shape, "linear", antialias=True)


class VQA:
    """A BLIP-VQA model with its tokenizer and what is known of its accuracy."""

    def __init__(
        self, model: BlipForQuestionAnswering, tokenizer: tokenizers.Tokenizer, accuracy: dict
    ):
        """See `load`; `accuracy` is the content of `accuracy.json`."""
        self.accuracy = accuracy
        self.asked = {name: tuple(sizes) for name, sizes in accuracy["asked"].items()}
        self.phrases = {name: tuple(sizes) for name, sizes in accuracy["phrases"].items()}
        self._tokenizer = tokenizer
        self._size = model.config.vision.image_size
        self._length = model.config.text.max_position_embeddings
        self._text = model.config.text
        self._words = _whiten(model.text_decoder.bert.embeddings.word_embeddings.embedding[...])
        yes_no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
        graph, self._state = nnx.split(model)
        self._generate = jax.jit(partial(_generate, graph))
        self._yes = jax.jit(partial(_yes, graph, yes_no))

    @classmethod
    def load(cls, folder: str | Path = PACKAGED) -> "VQA":
        """Reads `config.json`, `model.safetensors`, `tokenizer.json` and `accuracy.json`.

        Raises:
            FileNotFoundError: one of them is missing.
            ValueError: the weights do not fit the config.
        """
        folder = Path(folder).expanduser()
        config = BlipConfig.from_dict(huggingface.load_config(folder))
        for name in ("tokenizer.json", "accuracy.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"No {name} in {folder}; rbjax/vqa/train.py writes it.")
        model = shapes(lambda rngs: BlipForQuestionAnswering(config, rngs))
        huggingface.fill(model, folder)
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(model, tokenizer, json.loads((folder / "accuracy.json").read_text()))

    def asked_at(self, size: int) -> set[str]:
        """Returns the attributes that images of `size` pixels may be asked about."""
        return questions_lib.asked_at(size, self.asked)

    def phrases_at(self, size: int) -> set[str]:
        """Returns the attributes about whose tags "is there TAG?" may be asked at `size` pixels."""
        return questions_lib.asked_at(size, self.phrases)

    def answers(self, images: np.ndarray, questions: list[list[str]]) -> list[list[str]]:
        """Answers each image's questions greedily.

        Args:
            images: float32 [N, H, W, 3] in [-1, 1], of any size.
            questions: for each image its questions; their number may differ.
        """
        return [
            [self._tokenizer.decode(row.tolist()) for row in tokens]
            for tokens in self._each(self._generate, images, questions)
        ]

    def probability_yes(self, images: np.ndarray, phrases: list[list[str]]) -> list[np.ndarray]:
        """Returns for each image P(yes) / (P(yes) + P(no)) of each of its phrases.

        Args:
            images: float32 [N, H, W, 3] in [-1, 1], of any size.
            phrases: for each image what may be in it, such as "red hair"; their number may differ.
        """
        asked = [[questions_lib.yes_or_no(phrase) for phrase in row] for row in phrases]
        return self._each(self._yes, images, asked)

    def embed(self, answers: list[str]) -> np.ndarray:
        """Returns float32 [len(answers), D]: equal answers have cosine 1, unrelated ones about 0.

        An answer is the mean of its words' embeddings in the decoder, centred and whitened over the
        vocabulary: as they are, all words of a kind (such as colours) point one way. No word counts
        as [UNK].
        """
        ids = [self._tokenizer.encode(a, add_special_tokens=False).ids for a in answers]
        unknown = [self._tokenizer.token_to_id("[UNK]")]
        rows = [self._words[row or unknown].mean(axis=0) for row in ids]
        return np.array(rows, np.float32).reshape(len(answers), self._words.shape[1])

    def tokenize(self, questions: list[str]) -> tuple[np.ndarray, np.ndarray]:
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

    def _each(self, function, images, questions: list[list[str]]) -> list[np.ndarray]:
        """Applies a jitted function in batches of one shape; returns its rows for each image."""
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
            padded = [row + [""] * (width - len(row)) for row in part]
            padded += [[""] * width] * (_BATCH - len(part))
            ids, mask = self.tokenize([question for row in padded for question in row])
            batch = resize(_pad(images[start : start + _BATCH]), self._size)
            out = np.asarray(function(self._state, batch, ids, mask)).reshape(_BATCH, width, -1)
            results += [out[i, : len(row)] for i, row in enumerate(part)]
        return [row.squeeze(-1) if row.shape[-1] == 1 else row for row in results]


def _whiten(rows: np.ndarray) -> np.ndarray:
    """Centres [V, D] and gives it equal variance in all directions that it spans."""
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.mean(axis=0)
    variances, axes = np.linalg.eigh(rows.T @ rows)
    spanned = variances > 1e-6 * variances[-1]
    return rows @ (axes[:, spanned] / np.sqrt(variances[spanned]))


def _pad(images: np.ndarray) -> np.ndarray:
    return np.pad(images, ((0, _BATCH - len(images)), (0, 0), (0, 0), (0, 0)))


def _generate(graph, state, images, ids, mask) -> jax.Array:
    return nnx.merge(graph, state).generate(images, ids, mask, _MAX_NEW_TOKENS)


def _yes(graph, yes_no, state, images, ids, mask) -> jax.Array:
    model = nnx.merge(graph, state)
    start = jnp.full((len(ids), 1), model.config.text.bos_token_id, jnp.int32)
    logits = model(images, ids, mask, start)[:, 0]
    return nnx.sigmoid(logits[:, yes_no[0]] - logits[:, yes_no[1]])
