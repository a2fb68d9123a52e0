"""A bucket of Google Cloud Storage in this process: the API that clients speak over HTTP."""

import contextlib
import os
import socket
from collections.abc import Iterator
from http import HTTPStatus

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it asks what is not emulated

import gcsfs  # noqa: E402  after the setting
import pytest  # noqa: E402
from gcp_storage_emulator import server  # noqa: E402
from gcp_storage_emulator.handlers import objects  # noqa: E402

DOWNLOAD = objects.download


def download(request, response, storage):
    """Answers as the emulator, with the header of Google's answers by which TensorStore caches."""
    DOWNLOAD(request, response, storage)
    if response.status != HTTPStatus.NOT_FOUND:
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        response["x-goog-generation"] = found["generation"]


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    """Yields the URL of an empty bucket that gcsfs, google-cloud-storage and TensorStore find."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    emulator = server.create_server("localhost", port, in_memory=True, default_bucket=name)
    emulator.start()
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
            patch.setenv(variable, f"http://localhost:{port}")
        patch.setattr(objects, "download", download)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield f"gs://{name}"
    emulator.stop()
