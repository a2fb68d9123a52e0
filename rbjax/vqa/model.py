"""The VQA model that is asked about images: a BLIP-VQA, its tokenizer, its measured accuracy.

Axes: N images, Q questions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from flax import nnx
from jax.typing import ArrayLike

from rbjax.interop import hub_cache, huggingface, json_files
from rbjax.models.blip import BlipForQuestionAnswering
from rbjax.text.bert_tokenizer import bert_tokenizer
from rbjax.vqa import preprocessing
from rbjax.vqa import questions as questions_lib
from rbjax.vqa.batches import digest, place

PACKAGED = Path(__file__).parent.parent / "weights" / "vqa"
_BATCH = 32  # images in a compiled call; the last batch is padded
_FEW = 8  # where no more images are asked about, so many
_QUESTIONS = 8  # the number of questions is padded to a multiple of this
_TOKENS = 16  # the length of questions is padded to a multiple of this, or to the model's limit
ACCURACY = "accuracy.json"
UNKNOWN = "[UNK]"  # BERT's token for a word that is not in the vocabulary
MAX_NEW_TOKENS = 20  # of an answer, as transformers 5 generates by default
OUR_MAX_NEW_TOKENS = 4  # of a model of scripts/train_vqa.py

Images = np.ndarray | Sequence[np.ndarray]
Preprocess = Callable[[Sequence[np.ndarray]], ArrayLike]  # of images [H, W, 3] -> [N, S, S, 3]


class VQA:
    """A BLIP-VQA model with its tokenizer and what is known of its accuracy.

    Attributes:
        accuracy: content of `accuracy.json`; None if the model has none.
        asked: attribute to the sizes at which its answers to "what ...?" are reliable.
        phrases: attribute to the sizes at which its answers to "is there ...?" are reliable.
    """

    def __init__(
        self,
        model: BlipForQuestionAnswering,
        tokenizer: tokenizers.Tokenizer,
        *,
        preprocess: Preprocess,
        accuracy: dict[str, Any] | None = None,
    ) -> None:
        """Prepares, without compiling; see `load`.

        Raises:
            ValueError: the tokenizer has no token for "yes" or "no".
        """
        self.accuracy = accuracy
        asked, phrases = (accuracy[name] for name in ("asked", "phrases")) if accuracy else ({}, {})
        self.asked = {name: tuple(sizes) for name, sizes in asked.items()}
        self.phrases = {name: tuple(sizes) for name, sizes in phrases.items()}
        self._tokenizer = tokenizer
        self._preprocess = preprocess
        self._text = model.config.text
        ids = tokenizer.get_vocab()
        if absent := {"yes", "no"} - ids.keys():
            raise ValueError(f"The tokenizer has no {', '.join(sorted(absent))} token.")
        length = min(
            MAX_NEW_TOKENS if accuracy is None else OUR_MAX_NEW_TOKENS,
            self._text.max_position_embeddings,
        )
        graph, self._state = nnx.split(model)
        self._generate = jax.jit(partial(_generate, graph, length))
        self._yes = jax.jit(partial(_yes, graph, (ids["yes"], ids["no"])))
        self._see = jax.jit(partial(_see, graph))
        self._means: dict[bytes, np.ndarray] = {}  # of images that were seen

    @classmethod
    def load(cls, folder: str | Path = PACKAGED) -> "VQA":
        """Reads a folder of `scripts/train_vqa.py`, or a BLIP-VQA as transformers saves it.

        The former has an `accuracy.json`. The latter brings the settings of its image processor
        (`processor_config.json` or `preprocessor_config.json`) and any form of BERT's tokenizer,
        see `bert_tokenizer`.

        Raises:
            FileNotFoundError: no config, weights, tokenizer or image processor.
            ValueError: the weights do not fit the config, or are not of a BLIP-VQA, or the images
                of the processor do not fit the model.
        """
        folder = hub_cache.model_folder(Path(folder).expanduser())
        model = huggingface.load(folder, dtype=np.dtype(np.float32))
        if not isinstance(model, BlipForQuestionAnswering):
            raise ValueError(f"{folder} holds a {type(model).__name__}, not a BLIP-VQA.")
        tokenizer = bert_tokenizer(folder)
        path = folder / ACCURACY
        accuracy = _read_accuracy(path) if path.is_file() else None
        preprocess = _preprocess(folder, model.config.vision.image_size, ours=accuracy is not None)
        return cls(model, tokenizer, preprocess=preprocess, accuracy=accuracy)

    def asked_at(self, size: int) -> set[str] | None:
        """Returns the attributes that images of `size` pixels may be asked about; None is any."""
        return None if self.accuracy is None else questions_lib.asked_at(size, self.asked)

    def phrases_at(self, size: int) -> set[str] | None:
        """Returns the attributes about whose tags "is there TAG?" may be asked; None is any."""
        return None if self.accuracy is None else questions_lib.asked_at(size, self.phrases)

    def answers(self, images: Images, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """Answers each image's questions greedily.

        Args:
            images: N images, float32 [H, W, 3] in [-1, 1] of one size, or uint8 of any sizes.
            questions: for each image its questions; their number may differ.
        """
        return self.ask(images, questions, [()] * len(images))[0]

    def probability_yes(self, images: Images, phrases: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Returns for each image P(yes) / (P(yes) + P(no)) of each of its phrases.

        Args:
            images: as of `answers`.
            phrases: for each image what may be in it, such as "red hair"; their number may differ.
        """
        return self.ask(images, [()] * len(images), phrases)[1]

    def ask(
        self,
        images: Images,
        questions: Sequence[Sequence[str]],
        phrases: Sequence[Sequence[str]],
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """Returns `answers` and `probability_yes`; the features of an image are computed once."""
        asked = [[questions_lib.yes_or_no(phrase) for phrase in row] for row in phrases]
        tokens, yes = self._each(images, (self._generate, questions), (self._yes, asked))
        return [[self._decode(row.tolist()) for row in found] for found in tokens], yes

    def embed_images(self, images: Images) -> np.ndarray:
        """Returns a vector for each image, float32 [N, D]: the mean of the vision model's states.

        Args:
            images: as of `answers`.
        """
        keys = [digest(image) for image in images]
        new = [i for i, key in enumerate(keys) if key not in self._means]
        size = _batch_size(len(images))
        for start in range(0, len(new), size):
            self._states([images[i] for i in new[start : start + size]], size)
        return np.stack([self._means[key] for key in keys])

    def _decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of a generated row: without its start, end and padding."""
        around = (self._text.sep_token_id, self._text.pad_token_id)
        return self._tokenizer.decode([token for token in tokens[1:] if token not in around])

    def can_read(self, question: str) -> bool:
        """Returns whether a question is short enough for the model."""
        return len(self._tokenizer.encode(question).ids) <= self._text.max_position_embeddings

    def knows(self, phrase: str) -> bool:
        """Returns whether the model has a token for every word of a phrase."""
        return self._tokenizer.token_to_id(UNKNOWN) not in self._tokenizer.encode(phrase).ids

    def tokenize(self, questions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns token ids and mask, both int32 [len(questions), T].

        T is that of the longest question, rounded up to what the model compiles.

        Raises:
            ValueError: a question is longer than the model reads.
        """
        rows = [self._tokenizer.encode(question).ids for question in questions]
        limit = self._text.max_position_embeddings
        longest = max(map(len, rows), default=0)
        if longest > limit:
            question = questions[[len(row) for row in rows].index(longest)]
            raise ValueError(f"{question!r} has {longest} tokens; the model reads {limit}.")
        shape = (len(rows), min(_round_up(longest, _TOKENS), limit))
        ids, mask = np.full(shape, self._text.pad_token_id, np.int32), np.zeros(shape, np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        return ids, mask

    def _each(
        self, images: Images, *kinds: tuple[Callable[..., jax.Array], Sequence[Sequence[str]]]
    ) -> list[list[np.ndarray]]:
        """Returns for each kind, and each image, the rows of its function.

        Args:
            images: N images [H, W, 3].
            kinds: pairs of a function, jitted (state, image states, ids, mask) ->
                [N * Q, ...], and for each image its questions.
        """
        if any(len(images) != len(questions) for _, questions in kinds) or any(
            image.ndim != 3 for image in images
        ):
            raise ValueError(
                f"Expected N images [H, W, 3] and N lists of questions, got {len(images)} images "
                f"and {' and '.join(str(len(questions)) for _, questions in kinds)} lists."
            )
        results: list[list[np.ndarray]] = [[] for _ in kinds]
        size = _batch_size(len(images))
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            is_asked = any(len(row) for _, questions in kinds for row in questions[part])
            states = self._states(images[part], size) if is_asked else None
            for found, (function, questions) in zip(results, kinds, strict=True):
                found += self._rows(function, states, questions, part)
        return results

    def _rows(
        self,
        function: Callable[..., jax.Array],
        states: jax.Array | None,
        questions: Sequence[Sequence[str]],
        part: slice,
    ) -> list[np.ndarray]:
        """Returns the rows of a function for a batch, which has one shape in all batches.

        What fills it repeats what is in it, so that no answer to it takes longer.
        """
        asked = questions[part]
        if states is None or not any(map(len, asked)):
            return [np.zeros(0)] * len(asked)
        size, width = len(states), _round_up(max(map(len, questions)), _QUESTIONS)
        filler = next(question for row in questions for question in row)
        padded = [[*row, *[filler] * (width - len(row))] for row in asked]
        padded += [padded[-1]] * (size - len(asked))
        ids, mask = self.tokenize([question for row in padded for question in row])
        self._state, placed = place(size, self._state, states, ids, mask)
        out = np.asarray(function(self._state, *placed)).reshape(size, width, -1)
        rows = [out[i, : len(row)] for i, row in enumerate(asked)]
        return [row.squeeze(-1) if row.shape[-1] == 1 else row for row in rows]

    def _states(self, images: Images, size: int) -> jax.Array:
        """Returns the states of at most `size` images, [size, P, D], and keeps their means."""
        batch = list(images)
        pixels = self._preprocess(batch + batch[-1:] * (size - len(batch)))
        self._state, placed = place(size, self._state, pixels)
        states, means = self._see(self._state, *placed)
        self._means |= zip(map(digest, batch), np.asarray(means), strict=False)
        return states


def _preprocess(folder: Path, size: int, *, ours: bool) -> Preprocess:
    """Returns what makes the model's images, [N, size, size, 3]; raises as `VQA.load`."""
    blip = preprocessing.find(folder)
    if blip is None and ours:
        return preprocessing.SquareResize(size)
    if blip is None:
        raise FileNotFoundError(
            f"No {' or '.join(preprocessing.FILES)} in {folder}: save the processor there too "
            f"(transformers). A folder of scripts/train_vqa.py has {ACCURACY} instead."
        )
    if blip.size not in (None, (size, size)):
        raise ValueError(
            f"{folder}: the image processor makes images of {blip.size} and the model reads "
            f"{(size, size)}: `size` of the one must be `image_size` of the other."
        )
    return blip


def _read_accuracy(path: Path) -> dict[str, Any]:
    """Reads `accuracy.json`; raises ValueError unless it says what may be asked at which sizes."""
    accuracy = json_files.read(path)
    for name in ("asked", "phrases"):
        table = accuracy.get(name)
        rows = table.values() if isinstance(table, dict) else [None]
        if not all(isinstance(row, list) and all(type(n) is int for n in row) for row in rows):
            raise ValueError(
                f"{path}: {name!r} is not an object of attributes with lists of sizes in pixels; "
                "take the file that scripts/train_vqa.py wrote"
            )
    return accuracy


def _batch_size(count: int) -> int:
    """Returns the images of a compiled call; two sizes, since each is compiled."""
    return _FEW if count <= _FEW else _BATCH


def _round_up(number: int, step: int) -> int:
    return max(1, -(-number // step)) * step


def _generate(
    graph: nnx.GraphDef,
    length: int,
    state: nnx.State,
    image_states: jax.Array,
    ids: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """Returns the tokens of answers, int32 [B * Q, 1 + length]."""
    return nnx.merge(graph, state).generate(image_states, ids, mask, max_new_tokens=length)


def _see(graph: nnx.GraphDef, state: nnx.State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the states of images, [B, P, D], and their means [B, D]."""
    states = nnx.merge(graph, state).vision_model(images)
    return states, states.mean(axis=1)


def _yes(
    graph: nnx.GraphDef,
    yes_no: tuple[int, int],
    state: nnx.State,
    image_states: jax.Array,
    ids: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """Returns P(yes) / (P(yes) + P(no)) of questions, float32 [B * Q]."""
    logits = nnx.merge(graph, state).first_logits(image_states, ids, mask)
    return nnx.sigmoid(logits[:, yes_no[0]] - logits[:, yes_no[1]])
