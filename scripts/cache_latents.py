"""Stores VAE moments and text states of a split beside its data set, once, for training to read.

python scripts/cache_latents.py --config configs/composition.py:sd15 --config.pretrained=DIR

Give the --config of the training. Training reads what fits its weights, size and view (of text:
prompts and tokenizer), and says so where nothing does. A part that was interrupted starts anew.
Several hosts run the same command, as a training does; each reads and encodes its share.
"""

from absl import app, flags

from rbjax.command_line import (
    config_flag,
    one_line_errors,
    parse_flags,
    process_flags,
    set_environment,
)

CONFIG = config_flag()
SPLIT = flags.DEFINE_string("split", "train", "Split to encode; training reads `train`.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images, or prompts, encoded at once.")
ONLY = flags.DEFINE_enum("only", None, ["moments", "text"], "Stores only this part.")
PROCESSES = process_flags()


def main(argv: list[str]) -> None:
    """Encodes the split and writes what is not there yet."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    set_environment()
    from rbjax.data.latent_cache import PARTS  # after the environment is set
    from rbjax.experiment import setup as setup_lib
    from rbjax.parallel import distributed
    from rbjax.train import precompute_latents

    with one_line_errors("lower --batch_size"):
        distributed.initialize(**PROCESSES())
        with distributed.primary_first():  # it builds the data set
            exp = setup_lib.setup(setup_lib.resolve(CONFIG.value))
            split = exp.open(SPLIT.value)
        parts = (ONLY.value,) if ONLY.value else PARTS
        distributed.connect(exp.mesh)
        precompute_latents.store(exp, split, parts=parts, batch_size=BATCH_SIZE.value)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
