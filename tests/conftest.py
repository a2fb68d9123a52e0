"""Settings and fixtures of all tests: eight virtual devices on CPU, and a small data set."""

import ctypes
import ctypes.util
import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["EPATH_USE_TF"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",  # programs are small and many: compiling takes longer
        "--xla_cpu_use_fusion_emitters=false",  # halves the memory of compiling, a fifth less time
    ]
).strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "rbjax-tests")
)

import jax  # noqa: E402  after the settings
import pytest  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

import tfds_retribooru  # noqa: E402, F401  registers the builder

LIBC = ctypes.CDLL(ctypes.util.find_library("c"))
COMPILED = "/jax/core/compile/backend_compile_duration"
TESTS = pathlib.Path(__file__).parent
QUICK = (  # tests that compile no network; below TESTS
    *(
        "data",
        "evaluation",
        "experiment",
        "fuzz",
        "inference/test_reference.py",
        "metrics/test_bootstrap.py",
    ),
    *("metrics/test_leakage.py", "test_command_line.py", "test_main.py", "text", "tfds_retribooru"),
    *("vqa/test_questions.py", "vqa/test_tag_questions.py", "vqa/test_judge.py"),
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
def _clear_caches():
    """Forgets compiled programs after each module, which nearly always has its own."""
    yield
    jax.clear_caches()
    _trim()


def _trim(event: str = COMPILED, duration: float = 0.0, **_) -> None:
    """Returns freed memory to the system; glibc would keep gigabytes of XLA's compilations."""
    if event == COMPILED and hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


jax.monitoring.register_event_duration_secs_listener(_trim)


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
