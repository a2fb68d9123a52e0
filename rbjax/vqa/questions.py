"""What may be asked of a VQA model, and the form of a question for yes or no."""

from collections.abc import Collection, Mapping


def yes_or_no(phrase: str) -> str:
    """Returns the question whether `phrase` is in the image."""
    return f"is there {phrase}?"


def asked_at(size: int, reliable: Mapping[str, Collection[int]]) -> set[str]:
    """Returns the attributes that may be asked of images of `size` pixels.

    A size between two measured ones counts as the smaller of the two. Nothing is asked of a model
    that is reliable for nothing.

    Args:
        size: pixels of an image's side.
        reliable: attribute to the measured sizes at which the model is reliable for it.

    Raises:
        ValueError: `size` is below every measured size.
    """
    sizes = sorted({measured for at in reliable.values() for measured in at})
    smaller = [measured for measured in sizes if measured <= size]
    if not smaller and sizes:
        raise ValueError(
            f"No question can be asked of images of {size} px: the smallest size is {sizes[0]}. "
            "Raise config.data.size."
        )
    return {attribute for attribute, at in reliable.items() if smaller and smaller[-1] in at}
