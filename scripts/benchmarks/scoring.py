"""Scoring beside transformers: the same BLIP-VQA, images and questions, the same answers.

python -m scripts.benchmarks.scoring [--vqa DIR] [--images 8] [--questions 8]

transformers is asked twice: one question at a time, as T2I-CompBench's BLIP-VQA score does, and in
batches of pairs of image and question. rbjax encodes each image once for all its questions. Without
--vqa a model of BLIP-VQA base's sizes with random weights is made. The first call, which compiles
(or warms up), is not timed; images are decoded already.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from PIL import Image

from rbjax.vqa.model import MAX_NEW_TOKENS, VQA

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ASKED = (
    *("what color is the hair?", "what color are the eyes?", "is the person smiling?"),
    *("is the person wearing a skirt?", "what color is the background?", "is this outdoors?"),
    *("is the person sitting?", "what color is the skirt?"),
)
Answers = list[list[str]]


def main(argv: list[str] | None = None) -> None:
    """Prints a line for each way, and whether all answers are equal."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vqa", type=Path, help="folder of a BLIP-VQA as transformers saves it")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--questions", type=int, default=8, help="about each image")
    parser.add_argument("--layers", type=int, default=12, help="of a random model")
    parser.add_argument("--batch_size", type=int, default=32, help="pairs, of transformers")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(args.images)]
    questions = [[ASKED[i % len(ASKED)] for i in range(args.questions)]] * args.images
    with tempfile.TemporaryDirectory() as folder:
        if args.vqa is None:
            make_random(Path(folder), args.layers)
        compare(args.vqa or Path(folder), images, questions, batch_size=args.batch_size)


def compare(
    folder: Path, images: list[np.ndarray], questions: list[list[str]], *, batch_size: int
) -> None:
    """Asks in all ways and prints how long each takes."""
    print(f"{len(images)} images, {len(questions[0])} questions each; torch on {DEVICE}", end=", ")
    print(f"{torch.get_num_threads()} threads; jax on {jax.devices()[0].device_kind}")
    peer, ours = Peer(folder), VQA.load(folder)
    seconds: dict[str, tuple[float, float]] = {}
    answers: dict[str, Answers] = {}
    for name, ask in (
        ("transformers, one at a time", lambda some, rows: peer.ask(some, rows, 1)),
        ("transformers, batched", lambda some, rows: peer.ask(some, rows, batch_size)),
        ("rbjax", ours.answers),
    ):
        seconds[name], answers[name] = timed(ask, images, questions)
        wall, processor = seconds[name]
        print(f"{name:30} {wall:8.2f} s, {processor:8.2f} s of all cores together", flush=True)
    one, batched, rbjax = seconds.values()
    for i, kind in enumerate(("time", "time of all cores")):
        print(f"by {kind} {one[i] / rbjax[i]:.1f} and {batched[i] / rbjax[i]:.1f} times as fast")
    first, second, third = answers.values()
    print(f"same answers as one at a time: batched {first == second}, rbjax {first == third}")


def timed(
    ask: Callable[[list[np.ndarray], list[list[str]]], Answers],
    images: list[np.ndarray],
    questions: list[list[str]],
) -> tuple[tuple[float, float], Answers]:
    """Returns the seconds of a call after the first, by the clock and of all cores, and answers."""
    ask(images[:1], questions[:1])  # compiles: rbjax pads to one shape
    start, used = time.perf_counter(), time.process_time()
    answers = ask(images, questions)
    return (time.perf_counter() - start, time.process_time() - used), answers


class Peer:
    """transformers' own model and processor."""

    def __init__(self, folder: Path) -> None:
        self.processor = transformers.BlipProcessor.from_pretrained(folder)
        model = transformers.BlipForQuestionAnswering.from_pretrained(folder)
        self.model = model.eval().to(DEVICE)

    @torch.no_grad()
    def ask(self, images: list[np.ndarray], questions: list[list[str]], batch_size: int) -> Answers:
        """Answers pairs of image and question, so many at a time."""
        pairs = [
            (Image.fromarray(image), question)
            for image, row in zip(images, questions, strict=True)
            for question in row
        ]
        answers: list[str] = []
        for start in range(0, len(pairs), batch_size):
            pictures, texts = zip(*pairs[start : start + batch_size], strict=True)
            inputs = self.processor(
                images=list(pictures), text=list(texts), padding=True, return_tensors="pt"
            ).to(DEVICE)
            tokens = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)
            answers += self.processor.batch_decode(tokens, skip_special_tokens=True)
        width = len(questions[0])
        return [answers[start : start + width] for start in range(0, len(answers), width)]


def make_random(folder: Path, layers: int) -> None:
    """Writes a BLIP-VQA of base's widths with random weights that answer with a few words."""
    words = sorted({word for text in ASKED for word in text.replace("?", " ?").split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *words, "yes", "no", "red", "blue"]
    vocabulary += [f"[unused{i}]" for i in range(30522 - len(vocabulary))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    config = transformers.BlipConfig(
        vision_config={"num_hidden_layers": layers, "image_size": 384},
        text_config={
            **{"num_hidden_layers": layers, "vocab_size": 30524, "bos_token_id": 30522},
            **{"pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3, "encoder_hidden_size": 768},
            "num_attention_heads": 12,
        },
    )
    torch.manual_seed(0)
    model = transformers.BlipForQuestionAnswering(config)
    bias = model.text_decoder.cls.predictions.bias
    bias.data[3] = 0.7  # answers end, after a number of words that differs
    bias.data[len(special) + len(words) + 4 :] = -100.0  # and are words
    model.save_pretrained(folder)
    settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    image = {"image_processor_type": "BlipImageProcessor", "size": {"height": 384, "width": 384}}
    (folder / "preprocessor_config.json").write_text(json.dumps(image))


if __name__ == "__main__":
    main()
