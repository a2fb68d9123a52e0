"""Paths of the commands' options are of this machine."""

import pytest

from tfds_retribooru import check, describe, local_paths
from tfds_retribooru.collect import __main__ as collect


@pytest.mark.parametrize("url", ["gs://bucket/a", "s3:/a"])
def test_a_url_is_refused_by_each_command(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for parse in (check.main, describe.main, collect.parser().parse_args):
        words = ["--metadata", "p.json", "--out", url] if parse is not check.main else [url]
        with pytest.raises(SystemExit):
            parse(words)
        assert f"{url} is a URL; only files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_paths_are_read_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    read = {text: str(local_paths.local_path(text)) for text in ("~/a", "~nobody-at-all/a", "c:d")}
    assert read == {"~/a": "/home/me/a", "~nobody-at-all/a": "~nobody-at-all/a", "c:d": "c:d"}
