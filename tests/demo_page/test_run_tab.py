"""What the page shows of a run."""

import json

import pytest

pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")

from rbjax.demo_page import run_tab  # noqa: E402
from rbjax.evaluation import results  # noqa: E402


def scores(**changes) -> dict:
    row = {name: {"mean": 0.5, "low": 0.25, "high": 0.75} for name in results.COLUMNS}
    return {
        "schema": results.SCHEMA,
        "step": 8,
        "rows": {"trained": row},
        "scored": {"trained": []},
    } | changes


def test_a_run_that_has_only_begun(tmp_path):
    html = run_tab.report(tmp_path)
    assert all(text in html for text in ("Step 0 of ?", "none yet", "No samples", "No scores"))


def test_what_is_there_is_shown_without_paths(workdir):
    html = run_tab.report(workdir)
    assert "loss 0." in html and "Samples of step 10" in html and str(workdir) not in html


@pytest.mark.parametrize("name", ["results.json", "periodic_results.json"])
def test_scores_are_shown_also_before_the_end(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(scores()))
    html = run_tab.report(tmp_path)
    assert "Scores of step 8" in html and "50.0" in html


def test_scores_of_another_version_are_told(tmp_path):
    old = scores(schema=0, rows={"trained": {}})
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert "another version of rbjax" in run_tab.report(tmp_path)


def test_texts_of_a_run_are_escaped(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"total_steps": "<script>"}))
    assert "<script>" not in run_tab.report(tmp_path)
