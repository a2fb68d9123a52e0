"""TensorBoard's events of a run. TensorFlow writes them, and would open a bucket in its own way."""

import os
import tempfile
from pathlib import Path

from absl import logging
from clu import metric_writers
from clu.metric_writers import MetricWriter, MultiWriter

from rbjax import storage
from rbjax.parallel import distributed
from rbjax.storage import StoredPath


def make_writer(workdir: StoredPath) -> MetricWriter:
    """Returns what logs, and in process 0 also writes events into the working directory.

    Those of a run in a bucket are written on this machine, and are in the bucket when the writer is
    flushed: at every checkpoint, sample grid and evaluation.
    """
    if distributed.is_primary() and storage.is_remote(workdir):
        return _CopyingWriter(workdir)
    return metric_writers.create_default_writer(
        os.fspath(workdir), just_logging=not distributed.is_primary(), asynchronous=False
    )


class _CopyingWriter(MultiWriter):
    """Writes on this machine, and copies the files when it is flushed.

    Args:
        workdir: to copy to.
    """

    def __init__(self, workdir: StoredPath) -> None:
        self._workdir = workdir
        self._folder = tempfile.TemporaryDirectory(prefix="rbjax-events-")
        name = self._folder.name
        super().__init__([metric_writers.create_default_writer(name, asynchronous=False)])

    def flush(self) -> None:
        """Copies what was written up to now; what fails is copied by the next call."""
        super().flush()
        try:
            for file in storage.files(Path(self._folder.name)):
                (self._workdir / file.name).write_bytes(file.read_bytes())
        except Exception as error:  # gcsfs's and those of the login; a checkpoint is to follow
            logging.warning("TensorBoard's events are not in %s yet: %s", self._workdir, error)
