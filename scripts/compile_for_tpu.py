"""Compiles an experiment's training step and sampling for TPUs, on a machine that has none.

pip install -e '.[tpu]'
python scripts/compile_for_tpu.py --config configs/composition.py:sd15 --topology v4:2x2x1

Prints for each of the two programs what a device needs of its memory, the floating-point operations
and collectives, and how long compiling took. Ends with 1 where something does not fit. Weights and
records are not needed: without --config.pretrained a model of Stable Diffusion 1.5's size stands
for the folder's, and latents are taken as stored where they can be (--stored=none: nowhere); a
configuration without a folder builds its data set, whose words it needs.

With --memory_only no code is generated: it is many times faster, and prints the memory alone, as
the compiler estimates it. The program's code and constants are not in it: some 50 MiB of the small
models.
"""

import sys
import time

from absl import app, flags

from rbjax.command_line import config_flag, one_line_errors, parse_flags, set_environment

CONFIG = config_flag()
TOPOLOGY = flags.DEFINE_string("topology", "v4:2x2x1", "KIND:AxBxC; v4, v5e, v5p or v6e.")
ONLY = flags.DEFINE_enum("only", None, ["train", "sample"], "Compiles only this program.")
STORED = flags.DEFINE_enum(
    "stored",
    "all",
    ["all", "moments", "none"],
    "What scripts/cache_latents.py has stored: latents and text states, latents alone, or nothing "
    "(then the encoders are in the update).",
)
MEMORY_ONLY = flags.DEFINE_bool("memory_only", False, "Generates no code: faster, for the memory.")
REMEDY = (
    "Lower config.batch_size (sampling: config.eval.batch_size) or raise config.train.accumulate, "
    "set config.model.unet.remat=True, or split parameters with config.mesh.fsdp"
)


def main(argv: list[str]) -> None:
    """Compiles both programs and prints what they need."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    set_environment()
    from rbjax.parallel import topology  # imports JAX, but starts nothing

    topology.set_environment()
    with one_line_errors(REMEDY):
        fits = [
            compile_and_print(name) for name in ("train", "sample") if ONLY.value in (None, name)
        ]
    sys.exit(not all(fits))


def compile_and_print(name: str) -> bool:
    """Prints what a program needs; returns whether it fits into a device's memory."""
    import jax

    from rbjax.data import latent_cache
    from rbjax.parallel import program, topology
    from rbjax.train import ahead_of_time

    chip, devices = topology.open_topology(TOPOLOGY.value)
    exp = ahead_of_time.make_experiment(CONFIG.value, devices)
    axes = ", ".join(f"{axis} {size}" for axis, size in exp.mesh.shape.items())
    print(f"{name} on {TOPOLOGY.value}, {len(devices)} devices ({axes}):", flush=True)
    start = time.perf_counter()
    stored = {"all": latent_cache.PARTS, "none": ()}.get(STORED.value, (STORED.value,))
    compiled_for = ahead_of_time.programs(stored)[name]
    lowered = compiled_for.lower(exp)
    if MEMORY_ONLY.value:
        arguments = topology.argument_bytes(compiled_for.arguments(exp))
        rest = max(0, topology.estimate(lowered) - arguments)
        need = {"arguments": arguments, "results and work": rest}
        return print_memory(need, chip.memory, time.perf_counter() - start)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(f"  does not fit: {str(error).splitlines()[0]}\n  {REMEDY}")
        return False
    seconds, need = time.perf_counter() - start, program.memory(compiled)
    print(f"  TFLOP of a device: {program.operations(compiled) / 1e12:.3f} (loops count once)")
    for kind, (count, size) in program.summary(program.collectives(compiled.as_text())).items():
        print(f"  {kind}: {count}, {size / 2**20:.1f} MiB")
    return print_memory(need, chip.memory, seconds)


def print_memory(need: dict[str, int], available: int, seconds: float) -> bool:
    """Prints the bytes that a device needs and has; returns whether they are enough."""
    parts = ", ".join(f"{part} {size / 2**30:.3f}" for part, size in need.items())
    total = sum(need.values())
    print(f"  GiB of a device: {total / 2**30:.3f} of {available / 2**30:.2f} ({parts})")
    print(f"  traced and compiled in {seconds:.0f} s", flush=True)
    if total > available:
        print(f"  does not fit: {REMEDY}")
    return total <= available


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
