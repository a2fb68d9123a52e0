"""What a training prints before it starts: parameters, learning rate, prompts that are cut."""

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from rbjax.data.loader import Examples
from rbjax.parallel import program
from rbjax.train import state as states
from rbjax.train.state import TrainState


def print_parameters(state: TrainState) -> None:
    """Prints every parameter with its shape and part, and the bytes of the state on a device."""
    for name, params in (("trained", state.trained), ("frozen", state.frozen)):
        if params:
            print(f"Parameters that are {name}:")
            print(parameter_overview.get_parameter_overview(params, include_stats=False))
    counts = [sum(x.size for x in jax.tree.leaves(p)) for p in (state.trained, state.frozen)]
    print(f"{counts[0]:,} parameters train, {counts[1]:,} are frozen.")
    sizes = {field: program.device_bytes(value) for field, value in vars(state).items()}
    parts = ", ".join(f"{field} {size / 2**20:,.1f}" for field, size in sizes.items() if size > 4)
    total = f"{sum(sizes.values()) / 2**20:,.1f}"
    print(f"MiB of the state on each device: {total} ({parts}).", flush=True)


def print_learning_rate(config: ConfigDict, step: int, planned: int | None) -> None:
    """Prints how the learning rate goes on where `total_steps` is not what was planned before."""
    total = config.total_steps
    if planned is None or planned == total:
        return
    before, after = (
        np.asarray(states.learning_rate(config.train, n)(step)).item() for n in (planned, total)
    )
    how = f"goes on with {after:.3g} in place of {before:.3g}" if before != after else "is the same"
    print(
        f"config.total_steps was {planned} and is {total} now: the learning rate, which falls "
        f"up to the last step, {how}.",
        flush=True,
    )


def print_cut_prompts(examples: Examples) -> None:
    """Says how many prompts lose their last tags."""
    cut, count = examples.count_cut()
    if cut:
        length = examples.config.max_tokens
        print(
            f"Prompts with more than config.data.max_tokens={length} tokens lose their last tags: "
            f"{cut:,} of {count:,} ({cut / count:.0%}).",
            flush=True,
        )
