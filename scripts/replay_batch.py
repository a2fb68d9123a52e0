"""Says which examples of the batch are not finite, where updates that were not ended a run.

python scripts/replay_batch.py --workdir runs/composition

It computes the batch's examples again, one gradient each, from the newest checkpoint.
"""

import argparse

from rbjax.command_line import ArgumentParser, one_line_errors, set_environment


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, help="directory of the run that ended")
    parser.add_argument(
        "--pretrained", default="", help="where the folder of config.pretrained lies now"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Prints loss and gradient norm of each example."""
    args = parse_args(argv)
    set_environment()
    from rbjax import storage  # after the environment is set
    from rbjax.train.replay import replay

    with one_line_errors("compute on the CPU, JAX_PLATFORMS=cpu"):
        found = replay(storage.stored_path(args.workdir, "--workdir"), args.pretrained)
    print(f"Batch of step {found.step}, parameters of step {found.checkpoint}:")
    rows = zip(found.records, found.losses, found.grad_norms, found.bad, strict=True)
    for record, loss, grad_norm, bad in rows:
        mark = "  NOT FINITE" if bad else ""
        print(f"  record {record:>12}  loss {loss:10.4g}  gradient {grad_norm:10.4g}{mark}")
    print(
        f"{found.bad.sum()} of {len(found.bad)} examples are not finite."
        if found.bad.any()
        else "Every example is finite here: the updated parameters were not, or the checkpoint "
        "lies before the updates that led there. The learning rate is the likely cause."
    )


if __name__ == "__main__":
    main()
