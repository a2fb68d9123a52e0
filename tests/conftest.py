"""Settings and fixtures of all tests: eight virtual devices on CPU, and a small data set."""

import ctypes
import ctypes.util
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

import jax  # noqa: E402  after the settings
import pytest  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

import tfds_retribooru  # noqa: E402, F401  registers the builder

TESTS = pathlib.Path(__file__).parent
QUICK = (  # tests that compile no network; below TESTS
    *(
        "data",
        "evaluation",
        "experiment",
        "inference/test_reference.py",
        "metrics/test_bootstrap.py",
    ),
    *("metrics/test_leakage.py", "test_command_line.py", "test_main.py", "text", "tfds_retribooru"),
    *("vqa/test_questions.py",),
)


def pytest_collection_modifyitems(items):
    """Marks the tests of QUICK, but for those that are slow."""
    folders = [TESTS / name for name in QUICK]
    for item in items:
        quick = any(item.path.is_relative_to(folder) for folder in folders)
        if quick and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.quick)


def pytest_ignore_collect(collection_path, config):
    """With `-m quick`, imports no other module: those of torch and diffusers take long."""
    if config.option.markexpr != "quick" or collection_path.suffix != ".py":
        return None
    folders = [TESTS / name for name in QUICK]
    return not any(collection_path.is_relative_to(folder) for folder in folders) or None


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module():
    """Forgets compiled programs after each module, which nearly always has its own."""
    yield
    jax.clear_caches()


def pytest_runtest_teardown():
    """Returns freed memory to the system: of compilations glibc would keep gigabytes."""
    if trim := getattr(LIBC, "malloc_trim", None):
        trim(0)


LIBC = ctypes.CDLL(ctypes.util.find_library("c"))


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
