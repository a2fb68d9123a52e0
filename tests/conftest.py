"""Settings and fixtures of all tests: eight virtual devices on CPU, and a small data set."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",  # programs are small and many: compiling takes longer
    ]
).strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "rbjax-tests")
)

import pytest  # noqa: E402  after the settings, which JAX reads when it is imported
import tensorflow_datasets as tfds  # noqa: E402

import tfds_retribooru  # noqa: E402, F401  registers the builder


@pytest.fixture(scope="session")
def avatars_dir(tmp_path_factory) -> pathlib.Path:
    """A TFDS data directory that holds `avatars/tiny`."""
    data_dir = tmp_path_factory.mktemp("tfds")
    tfds.builder("avatars/tiny", data_dir=data_dir).download_and_prepare()
    return data_dir


@pytest.fixture(scope="session")
def avatars(avatars_dir):
    """The prepared builder of `avatars/tiny`."""
    return tfds.builder("avatars/tiny", data_dir=avatars_dir)
