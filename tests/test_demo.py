"""The command that serves the page."""

import importlib.util

import pytest

from rbjax import demo


def test_the_address_is_this_machine_s_and_nothing_is_shared_by_itself():
    args = demo.parse_args([])
    assert (args.host, args.share, args.checkpoint, args.run) == ("127.0.0.1", False, [], [])


def test_checkpoints_and_runs_may_be_several():
    args = demo.parse_args(["--checkpoint", "a", "--checkpoint", "b", "--run", "c"])
    assert (args.checkpoint, args.run) == (["a", "b"], ["c"])


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["demo"])
    with pytest.raises(
        SystemExit, match=r"Error: the page needs Gradio: pip install -e '.\[demo\]'"
    ):
        demo.main()


@pytest.mark.parametrize(
    "option, message", [("--run", "no --workdir of a training"), ("--checkpoint", "holds no model")]
)
def test_folders_that_are_none_are_told_in_one_line(option, message, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")
    monkeypatch.setattr("sys.argv", ["demo", option, str(tmp_path)])
    with pytest.raises(SystemExit, match=f"Error: {option}=.*{message}"):
        demo.main()
