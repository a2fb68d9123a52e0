"""What a process reads of the batches of a run: the rows of its own devices."""

import grain
import numpy as np

from rbjax.models.batch import Batch


class Batches:
    """Endless batches, with a state that is the same in runs of any number of processes."""

    def __init__(self, batches: grain.DatasetIterator, rows: int, batch_size: int) -> None:
        """Wraps a process's batches, `rows` of `batch_size` examples each."""
        self._batches, self._rows, self._batch_size = batches, rows, batch_size

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def get_state(self) -> dict[str, int]:
        """Returns the number of examples that all processes have read, as grain's state."""
        index = self._batches.get_state()["next_index"]
        return {"next_index": index // self._rows * self._batch_size}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on after the batches that were read when `get_state` returned this."""
        index = state["next_index"] // self._batch_size
        self._batches.set_state({"next_index": index * self._rows})


class Rows(grain.MapDataset):
    """Some rows of each of the batches that a data set divides into."""

    def __init__(self, parent: grain.MapDataset, rows: np.ndarray, batch_size: int) -> None:
        super().__init__(parent)
        self._rows, self._batch_size = rows, batch_size

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._rows)

    def __getitem__(  # pyrefly: ignore[bad-override]  grain's method takes slices too
        self, index: int
    ) -> Batch | None:
        batch, row = divmod(index, len(self._rows))
        return self._parent[batch * self._batch_size + int(self._rows[row])]
