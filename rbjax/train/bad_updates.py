"""Updates that are not applied, as something is not finite: counted; many in a row end the run."""

import dataclasses
import json
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average, Collection, Metric
from clu.periodic_actions import PeriodicCallback
from flax import struct
from ml_collections import ConfigDict
from safetensors import numpy as safetensors
from safetensors import safe_open

from rbjax import storage
from rbjax.data.dataset import Split
from rbjax.models.batch import Batch
from rbjax.storage import StoredPath


@struct.dataclass
class FiniteAverage(Average):
    """Average of what is finite: one bad update does not hide the others; of none it is NaN."""

    @classmethod
    def from_model_output(
        cls, values: jax.Array, mask: jax.Array | None = None, **_: jax.Array
    ) -> Average:
        """Takes the values of one step."""
        finite = jnp.isfinite(jnp.atleast_1d(values))
        return super().from_model_output(values, finite if mask is None else finite & mask)


@struct.dataclass
class BadUpdates(Metric):
    """Updates that were not applied.

    Attributes:
        count: int32 [], since the last log step.
        in_row: int32 [], up to the last step; goes on over log steps.
    """

    count: jax.Array
    in_row: jax.Array

    @classmethod
    def empty(cls) -> "BadUpdates":
        """Returns none."""
        return cls(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    @classmethod
    def from_model_output(cls, *, finite: jax.Array, **_: jax.Array) -> "BadUpdates":
        """Counts one step, by whether all of it was finite."""
        bad = (~finite).astype(jnp.int32)
        return cls(bad, bad)

    def merge(self, other: "BadUpdates") -> "BadUpdates":
        """Adds the step after; `other` is of one step."""
        return BadUpdates(self.count + other.count, other.in_row * (self.in_row + 1))

    def compute(self) -> jax.Array:
        """Returns the count."""
        return self.count


def of(metrics: Collection) -> BadUpdates:
    """Returns those of the training's metrics, whose fields no type checker sees."""
    return cast(Any, metrics).bad_updates


def begin(metrics: Collection, zero: Collection) -> Collection:
    """Returns `zero`, the metrics of no step, in which the row of `metrics` goes on."""
    bad = dataclasses.replace(of(zero), in_row=of(metrics).in_row)
    return dataclasses.replace(cast(Any, zero), bad_updates=bad)


def check(
    config: ConfigDict, split: Split, workdir: StoredPath, rows: np.ndarray
) -> PeriodicCallback:
    """Returns a callback that raises ValueError after `max_bad_updates` in a row.

    It is called with the step, its metrics and its batch, on the host; the batch is left in the
    working directory for scripts/replay_batch.py. The last step of the run is checked too.

    Args:
        config: of the run.
        split: that it trains on.
        workdir: of the run.
        rows: of the batch of all processes that this one's holds, int [n].
    """
    limit = config.train.max_bad_updates

    def call(step: int, t: float, metrics: Collection, batch: Batch) -> None:
        count = int(of(metrics).in_row)
        if count < limit:
            return
        records = [split.record_id(i) for i in np.asarray(batch.index).tolist()]
        path = dump(BadBatch(step, batch, records, rows), workdir)
        raise ValueError(
            f"step {step}: the last {count} updates were not applied, as loss, gradient or updated "
            f"parameters were not finite. The checkpoints hold finite parameters. The last batch "
            f"has the records {', '.join(records)} of the split train; it is in {path}, and "
            f"scripts/replay_batch.py --workdir {workdir} finds its examples that are not finite. "
            "Lower --config.train.learning_rate, or compute in float32, in another --workdir"
        )

    every = min(limit, config.log_every)
    return PeriodicCallback(every_steps=every, on_steps=[config.total_steps], callback_fn=call)


@dataclasses.dataclass(frozen=True)
class BadBatch:
    """A batch that gave an update that was not finite, or a process's share of it.

    Attributes:
        step: of the update; the first is 1.
        batch: on the host.
        records: ids of its targets.
        rows: of the batch of all processes, which these are, int [n].
    """

    step: int
    batch: Batch
    records: list[str]
    rows: np.ndarray


def dump(found: BadBatch, workdir: StoredPath) -> StoredPath:
    """Writes a process's share of a batch where `load` finds it; returns the file."""
    path = workdir / f"bad_batch-{jax.process_index()}.safetensors"
    held = {name: value for name, value in vars(found.batch).items() if value is not None}
    arrays = {name: np.ascontiguousarray(value) for name, value in held.items()}
    texts = {"step": str(found.step), "records": json.dumps(found.records)}
    texts["rows"] = json.dumps(found.rows.tolist())
    path.write_bytes(safetensors.save(arrays, texts))
    return path


def load(workdir: StoredPath) -> BadBatch:
    """Reads what the processes of a run wrote with `dump`, as one batch.

    Raises:
        FileNotFoundError: no run of this directory was ended by bad updates, or a share is missing.
    """
    shares = [_read(path) for path in sorted(workdir.glob("bad_batch-*.safetensors"))]
    if not shares:
        raise FileNotFoundError(
            f"no bad_batch-*.safetensors in {workdir}: no run there ended with bad updates"
        )
    step = max(share.step for share in shares)  # older ones are of a run with more processes
    shares = [share for share in shares if share.step == step]
    rows, first = np.unique(np.concatenate([share.rows for share in shares]), return_index=True)
    if rows.tolist() != list(range(len(rows))):
        raise FileNotFoundError(
            f"{workdir} lacks the share of a process: the bad_batch-*.safetensors of step {step} "
            f"hold the rows {rows.tolist()} of the batch alone"
        )
    records = [record for share in shares for record in share.records]
    batch = jax.tree.map(
        lambda *parts: np.concatenate(parts)[first], *[share.batch for share in shares]
    )
    return BadBatch(step, batch, [records[i] for i in first], rows)


def _read(path: StoredPath) -> BadBatch:
    with storage.local_copy(path) as local, safe_open(local, "numpy") as file:
        texts = file.metadata()
        batch = Batch(**{name: file.get_tensor(name) for name in file.keys()})
    records, rows = json.loads(texts["records"]), np.asarray(json.loads(texts["rows"]))
    return BadBatch(int(texts["step"]), batch, records, rows)
