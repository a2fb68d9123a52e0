"""Activation functions by the names that transformers gives them."""

from collections.abc import Callable

import jax

Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


def activation(name: str) -> Activation:
    """Returns the activation function of a name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown hidden_act {name!r}: use one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
