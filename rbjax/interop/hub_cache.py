"""Folders as the Hugging Face Hub's client keeps them: of each repository its snapshots.

models--OWNER--NAME/refs/main            the name of a snapshot
models--OWNER--NAME/snapshots/SNAPSHOT/  the model's folder, of links into ../../blobs/
"""

from pathlib import Path

SNAPSHOTS = "snapshots"


def model_folder(path: Path) -> Path:
    """Returns the model's folder in the cache of a repository; any other folder as it is.

    It is the snapshot that `refs/main` names, or the only one.

    Raises:
        FileNotFoundError: there is none, or its files are not in the cache.
        ValueError: it is not told which of several is meant, or the cache has several repositories.
    """
    if path.is_dir() and (models := sorted(path.glob(f"models--*/{SNAPSHOTS}"))):
        names = ", ".join(str(model.parent) for model in models)
        raise ValueError(f"{path} is a cache of the Hugging Face Hub: name one of {names}")
    folder = path / SNAPSHOTS
    if not folder.is_dir() or not path.name.startswith("models--"):
        return _whole(path)
    found = sorted(child for child in folder.iterdir() if child.is_dir())
    reference = path / "refs" / "main"
    if reference.is_file() and (named := folder / reference.read_text().strip()) in found:
        return _whole(named)
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise (ValueError if found else FileNotFoundError)(
            f"{path} is a cache of the Hugging Face Hub without a snapshot that refs/main names: "
            f"name the folder of one (there is {names})"
        )
    return _whole(found[0])


def _whole(folder: Path) -> Path:
    """Returns a folder whose links lead somewhere; raises FileNotFoundError otherwise."""
    broken = (p for depth in ("*", "*/*") for p in folder.glob(depth) if _is_broken(p))
    if path := next(broken, None):
        raise FileNotFoundError(
            f"{path} is a link to {path.readlink()}, which is not there: the files of a Hugging "
            "Face cache lie in its folder blobs/. Copy the whole models--* folder, or copy "
            "following the links (`cp -rL`)"
        )
    return folder


def _is_broken(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
