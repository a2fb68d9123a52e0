"""Records whose image cannot be decoded: named, and skipped by training where they are few."""

import contextlib
import threading
import zlib
from collections.abc import Iterator

from absl import logging

from rbjax.data.dataset import Split

DECODING = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, zlib.error)  # what is raised
LARGEST_SHARE = 0.001  # of a split's records; one is always skipped


class BadRecord(ValueError):
    """A record that cannot be decoded.

    Attributes:
        record: its id.
    """

    def __init__(self, split: Split, position: int, error: Exception) -> None:
        self.record = split.record_id(position)
        super().__init__(
            f"record {self.record} of the split {split.name} in {split.directory} cannot be "
            f"decoded ({type(error).__name__}: {error}): build the data set again"
        )


@contextlib.contextmanager
def named(split: Split, position: int) -> Iterator[None]:
    """Raises BadRecord for what fails while this record is read and decoded.

    Errors of the file system are left as they are: the record may be read another time.
    """
    try:
        yield
    except DECODING as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadRecord(split, position, error) from error


class Skipped:
    """The records that were skipped; threads may share it."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._lock = threading.Lock()

    def add(self, error: BadRecord, split: Split) -> None:
        """Counts a record, and says so the first time.

        Raises:
            ValueError: there are too many in this split.
        """
        most = max(1, int(len(split) * LARGEST_SHARE))
        with self._lock:
            if error.record in self._found:
                return
            self._found.add(error.record)
            if len(self._found) > most:
                raise ValueError(
                    f"{len(self._found)} of {len(split):,} records of the split {split.name} "
                    f"cannot be decoded ({', '.join(sorted(self._found))}), more than {most}: "
                    f"build the data set in {split.directory} again"
                )
            logging.warning("%s; it is skipped (%d of at most %d)", error, len(self._found), most)
