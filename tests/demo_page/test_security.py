"""Nothing of the server can be read through the page."""

import json
import os
import pathlib
import sys
import urllib.parse

import numpy as np
import pytest

from rbjax.demo_page import pictures

httpx = pytest.importorskip("httpx", reason="comes with Gradio")
SECRET = "zq-secret-of-this-machine-qz"


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("outside") / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


def attempts(secret: pathlib.Path, folder: str) -> list[str]:
    link = pathlib.Path(folder) / "link.txt"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    directory = pathlib.Path(folder) / "directory"
    directory.unlink(missing_ok=True)
    directory.symlink_to(secret.parent)
    relative = os.path.relpath(secret)
    return [
        *(str(secret), f"file://{secret}", relative, f"{folder}/{os.path.relpath(secret, folder)}"),
        *(str(link), "link.txt", f"{directory}/secret.txt", f"/proc/self/cwd/{relative}"),
        *(f"/proc/self/root{secret}", f"{folder}/./../../..{secret}", f"//{secret}"),
    ]


@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "gradio_api/file/", "static/"])
def test_no_address_gives_a_file(client, secret, route):
    for path in attempts(secret, os.environ["GRADIO_TEMP_DIR"]):
        for form in (path, urllib.parse.quote(path, safe=""), path.replace("/", "%2F")):
            answer = client.get(f"/{route}{form}")
            assert SECRET not in answer.text, f"{route}{form}"
            assert answer.status_code != 200 or "<html" in answer.text.lower(), f"{route}{form}"


@pytest.mark.parametrize("name", ["pyproject.toml", "rbjax/demo.py", ".git/config"])
def test_the_working_directory_is_not_served(client, name):
    assert client.get(f"/gradio_api/file={name}").status_code in (403, 404)
    assert client.get(f"/gradio_api/file={pathlib.Path(name).absolute()}").status_code in (403, 404)


@pytest.mark.parametrize("route", ["gradio_api/file=", "gradio_api/proxy=", "proxy="])
def test_the_server_opens_no_address(client, address, route):
    answer = client.get(f"/{route}{address}config", follow_redirects=False)
    assert answer.status_code != 200 or "<html" in answer.text.lower()
    assert '"components"' not in answer.text


def test_server_functions_open_no_path(client, secret):
    config = client.get("/config").json()
    (component,) = (c for c in config["components"] if c["props"].get("elem_id") == "references")
    for path in attempts(secret, os.environ["GRADIO_TEMP_DIR"]):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for picture in (path, file, {"url": path}, f"data:image/png;base64,{path}"):
            item = {"concept": "face", "picture": picture, "box": None}
            body = {
                "session_hash": "x",
                "component_id": component["id"],
                "fn_name": "preview",
                "data": {"item": item, "number": 1},
            }
            answer = client.post("/gradio_api/component_server", json=body)
            assert SECRET not in answer.text and "crop" not in answer.text


def test_only_the_page_s_own_functions_can_be_called(client):
    config = client.get("/config").json()
    (component,) = (c for c in config["components"] if c["props"].get("elem_id") == "references")
    for name in ("preprocess", "postprocess", "__init__", "get_config", "read_from_flag"):
        body = {"session_hash": "x", "component_id": component["id"], "fn_name": name, "data": 1}
        assert client.post("/gradio_api/component_server", json=body).status_code in (404, 422)


def test_a_restored_picture_opens_no_path(client, secret):
    content = {"references": [["face", str(secret)]], "prompt": "a", "seed": 0, "steps": 1}
    content |= {"guidance_references": 1, "guidance_prompt": 1, "size": 32}
    url = pictures.data_url(np.zeros((8, 8, 3), np.uint8), {"rbjax": json.dumps(content)})
    answer = run(client, function_of(client, "restore", "change"), [url])
    assert SECRET not in answer and "only named in it" in answer


def function_of(client, name: str, event: str, outputs: int | None = None) -> int:
    """The number of the function that an event of a component calls."""
    config = client.get("/config").json()
    (component,) = (c for c in config["components"] if c["props"].get("elem_id") == name)
    (number,) = (
        i
        for i, dependency in enumerate(config["dependencies"])
        if [component["id"], event] in [list(target) for target in dependency["targets"]]
        and outputs in (None, len(dependency["outputs"]))
    )
    return number


def run(client, number: int, data: list) -> str:
    """Calls an event as the page does, and returns all that the server answers."""
    body = {"data": data, "fn_index": number, "session_hash": "test", "trigger_id": None}
    client.post("/gradio_api/queue/join", json=body).raise_for_status()
    lines = []
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "test"}) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if '"process_completed"' in line:
                break
    return "\n".join(lines)


_opened: list[tuple[str, int]] = []
_is_watching = False
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _watch(event: str, args: tuple) -> None:
    if _is_watching and event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        _opened.append((os.fsdecode(args[0]), args[2]))


sys.addaudithook(_watch)  # cannot be removed


def test_nothing_but_the_temporary_folder_is_written(client, studio, monkeypatch):
    folder = pathlib.Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.name.startswith("rbjax_demo_") and folder.is_dir()
    monkeypatch.setitem(globals(), "_is_watching", True)
    picture = pictures.data_url(np.zeros((8, 8, 3), np.uint8))
    item = {"concept": "face", "picture": picture, "box": None}
    values = ([item], "smile", 0, False, 1, 2, 2.0, 3.0, studio.size, "euler", " x")
    answer = run(client, function_of(client, "generate", "click", outputs=3), list(values))
    assert "Image 1 of 1" in answer and "Download" in answer
    upload = {"files": ("a.png", pictures.data_of(picture, "it"), "image/png")}
    client.post("/gradio_api/upload", files=upload)
    monkeypatch.setitem(globals(), "_is_watching", False)
    assert _opened  # the hook works
    ours = (folder, os.environ["JAX_COMPILATION_CACHE_DIR"], "/dev")
    written = {name for name, flags in _opened if flags & WRITING}
    assert {n for n in written if not any(under(n, place) for place in ours)} == set()


def under(name: str, folder: str | pathlib.Path) -> bool:
    return pathlib.Path(name).resolve().is_relative_to(pathlib.Path(folder).resolve())
