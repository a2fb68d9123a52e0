"""The VQA score: what a VQA model answers about generated images.

The paper's formula is not public; this is ours. Each image is asked the questions that its prompt
implies, e(x) is an embedding of an answer, cos the cosine:

- flexibility = mean over images and questions of cos(e(answer), e(expected answer)): does the
  image show what the prompt asks for? 1 is always, about 0 is never.
- diversity = mean over questions and over pairs of images made from the same references of
  1 - cos(e(answer), e(answer')): do images of one subject differ where prompts leave them free? 0
  to about 1.
- P(yes) = mean over images of the product over the prompt's phrases of P(yes) / (P(yes) + P(no)),
  for "is there PHRASE?" (as in T2I-CompBench).

Axes: N images, K images of one subject, Q questions, D width of an embedding.
"""

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosines [...] of the rows of two arrays [..., D]; 0 where a row is zero."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.clip(np.sum(a * b, axis=-1) / np.where(norms == 0, 1, norms), -1, 1)


def flexibility(answers: np.ndarray, expected: np.ndarray) -> float:
    """Returns the mean cosine of answers and expected answers [..., D]; NaN if there is none."""
    return float(np.mean(cosine(answers, expected))) if answers.size else float("nan")


def diversity(answers: np.ndarray) -> float:
    """Returns the mean of 1 - cosine over pairs of images and over questions.

    Args:
        answers: embeddings [K, Q, D] of the answers to the same questions about images of one
            subject.

    Raises:
        ValueError: there are fewer than two images.
    """
    if len(answers) < 2:
        raise ValueError(f"Diversity compares pairs of images; got {len(answers)} image.")
    first, second = np.triu_indices(len(answers), k=1)
    return float(np.mean(1 - cosine(answers[first], answers[second])))


def probability_yes(phrases: np.ndarray) -> float:
    """Returns the product of an image's P(yes) over its phrases [Q]; NaN if there is none."""
    return float(np.prod(phrases)) if phrases.size else float("nan")
