"""The report of an evaluation: one HTML page that carries its pictures with it."""

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rbjax.data.images import enlarge, to_uint8
from rbjax.evaluation import plots
from rbjax.evaluation.baselines import Images, Row
from rbjax.evaluation.results import COLUMNS, label, percent
from rbjax.evaluation.suite import Case, Suite

COLUMN_NOTES = {
    "vqa_flexibility": (
        "↑ Does the image show what the prompt asks for? Mean cosine between the embedding of the "
        "VQA model's answer and that of the wanted answer; 100 if all answers are right."
    ),
    "vqa_diversity": (
        "How different are images made from the same references? Mean pairwise (1 − cosine) of "
        "the answers to one question. Near the real images' is good: 0 means always the same."
    ),
    "p_yes": (
        "↑ The same question asked the other way: product over the prompt's phrases of the "
        "probability that the VQA model says yes to each."
    ),
    "outfit_agreement": (
        "↑ Share of the outfit's attributes (clothing, its colour, its print) for which the VQA "
        "model gives the same answer as for the clothes references."
    ),
    "identity_agreement": (
        "↑ Share of the character's attributes (hair, its colour, skin, accessory, facial hair) "
        "for which it gives the same answer as for the face references."
    ),
    "leakage": (
        "↓ Share of what the prompt decides (eyes, eyebrows, mouth, background) that was taken "
        "from a reference instead. The prompts ask for values that no reference has."
    ),
}
ROW_NOTES = {
    "trained": "The model, with prompt and references.",
    "references_blanked": "The same model, prompts and noise, without references.",
    "other_references": (
        "Control: with another character's references, compared with the original ones."
    ),
    "copy_reference": "Leak baseline: no model, one of the references as it is.",
    "real_images": (
        "Upper bound: other images of the same character in the same outfit, judged by their own "
        "tags."
    ),
}
NOT_SCORED = (
    '<p class="soft">None: the data set has no questions whose answers are known, so nothing was '
    "asked about these images.</p>"
)
STYLE = """
:root { --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --mark: #eff6ff; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); max-width: 1080px;
  margin: 2.5rem auto; padding: 0 1.25rem; background: #fff; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p.lead, .soft { color: var(--soft); margin-top: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .45rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { font-weight: 600; font-size: .85rem; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.number small { color: var(--soft); display: block; }
tr.trained { background: var(--mark); }
dl { display: grid; grid-template-columns: 11rem 1fr; gap: .35rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; color: #475569; }
img { max-width: 100%; } .scroll { overflow-x: auto; }
.case { display: flex; gap: 1.4rem; padding: .8rem 0; border-bottom: 1px solid var(--line);
  flex-wrap: wrap; }
.group > b { font-size: .8rem; color: var(--soft); font-weight: 600; display: block; }
.group > div { display: flex; gap: .4rem; }
figure { margin: 0; width: 96px; }
figure img { width: 96px; image-rendering: pixelated; border-radius: 4px; display: block; }
figcaption { font-size: .68rem; line-height: 1.3; color: var(--soft); margin-top: .2rem; }
pre { background: #f8fafc; border: 1px solid var(--line); border-radius: 6px; padding: 1rem;
  overflow-x: auto; font-size: .82rem; }
"""


def write(
    folder: Path | str,
    results: Mapping[str, Any],
    rows: Mapping[str, Row],
    suite: Suite,
    images: Images,
    losses: Sequence[tuple[int, float]] = (),
    config: Mapping[str, Any] | None = None,
    title: str = "Composition from references",
    characters: int = 8,
) -> Path:
    """Writes `folder/index.html` and returns its path.

    Args:
        folder: is made if it is missing.
        results: of `rbjax.evaluation.run.score`.
        rows: of `rbjax.evaluation.rows.collect`, the same as were scored.
        suite: the cases.
        images: positions of records to their whole images at the generated size.
        losses: (step, loss) pairs of the training.
        config: of the experiment; anything that JSON can say.
        title: the page's heading.
        characters: how many characters are pictured.
    """
    parts = [_heading(title, results)]
    if scored := bool(results["asked"] or results["phrases"]):
        parts += [_table(results), _bars(results), _notes()]
    if len(losses):
        parts.append(_section("Training", _picture(plots.loss_curve(losses), "loss by step")))
    parts += [_examples(rows, suite, images, characters)]
    parts += [_attributes(results)] if scored else [_section("Scores", NOT_SCORED)]
    if config is not None:
        text = json.dumps(config, indent=2, default=str, ensure_ascii=False)
        parts.append(_section("Config", f"<pre>{html.escape(text)}</pre>"))
    path = Path(folder) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(title, "\n".join(parts)), encoding="utf-8")
    return path


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<h2>{html.escape(heading)}</h2>\n{body}"


def _heading(title: str, results: Mapping[str, Any]) -> str:
    facts = (
        f"{results['characters']} characters, {results['cases']} images a row, "
        f"{results['size']} × {results['size']} pixels. Percent, with bootstrap intervals over "
        f"characters ({100 * results['confidence']:.0f} %)."
    )
    return f'<h1>{html.escape(title)}</h1><p class="lead">{facts}</p>'


def _table(results: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{_words(name)}</th>" for name in ("", *COLUMNS))
    lines = []
    for row, columns in results["rows"].items():
        cells = "".join(f'<td class="number">{_cell(columns[name])}</td>' for name in COLUMNS)
        lines.append(f'<tr class="{row}"><th>{_words(row)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(lines)}</table></div>'
    )


def _cell(value: Mapping[str, float] | None) -> str:
    mean, _, interval = percent(value).partition(" ")
    return f"<b>{mean}</b><small>{interval}</small>"


def _words(name: str) -> str:
    return html.escape(label(name))


def _bars(results: Mapping[str, Any]) -> str:
    return f"<p>{_picture(plots.bars(results, COLUMNS), 'the table as bars')}</p>"


def _picture(data: bytes, text: str) -> str:
    return f'<img src="{png_uri(data)}" alt="{html.escape(text)}">'


def _notes() -> str:
    columns = _section("What the columns mean", _definitions(COLUMN_NOTES))
    return columns + _section("What the rows are", _definitions(ROW_NOTES))


def _definitions(notes: Mapping[str, str]) -> str:
    items = (f"<dt>{_words(name)}</dt><dd>{html.escape(note)}</dd>" for name, note in notes.items())
    return f"<dl>{''.join(items)}</dl>"


def _examples(rows: Mapping[str, Row], suite: Suite, images: Images, characters: int) -> str:
    """Pictures, a line a character: references, generated images with their prompts, targets."""
    if "trained" not in rows:
        return ""
    made = zip(rows["trained"].cases, rows["trained"].images, strict=True)
    groups = [list(group) for _, group in groupby(made, key=lambda pair: pair[0].character)]
    lines = "".join(_example(group, images) for group in groups[:characters])
    note = (
        "References are shown whole; the model sees the part of each that its caption names. "
        "Targets are real images of the same character and outfit: same clothes, same person, "
        "not the same prompt."
    )
    return _section("Examples", f'<p class="soft">{note}</p>{lines}')


def _example(group: Sequence[tuple[Case, Any]], images: Images) -> str:
    case = group[0][0]
    references = zip(images(case.references), case.concepts, strict=True)
    real = [other.real for other, _ in group if other.real is not None]
    targets = [(image, "") for image in (images(real) if real else ())]
    generated = [(image, ", ".join(other.prompt)) for other, image in group]
    parts = (("references", references), ("generated", generated), ("targets", targets))
    return '<div class="case">' + "".join(_figures(name, pairs) for name, pairs in parts) + "</div>"


def _figures(heading: str, pairs: Iterable[tuple[Any, str]]) -> str:
    figures = "".join(
        f'<figure><img src="{data_uri(image)}" alt=""><figcaption>{html.escape(text)}</figcaption>'
        "</figure>"
        for image, text in pairs
    )
    return f'<div class="group"><b>{heading}</b><div>{figures}</div></div>' if figures else ""


def _attributes(results: Mapping[str, Any]) -> str:
    """A table of the share of right answers of every attribute, by row."""
    attributes = results["attributes"]
    kinds = {name: value["kind"] for row in attributes.values() for name, value in row.items()}
    head = "".join(f"<th>{_words(name)}</th>" for name in ("attribute", "kind", *attributes))
    lines = []
    for name, kind in kinds.items():
        shares = (row.get(name) for row in attributes.values())
        cells = "".join(
            f'<td class="number">{"–" if s is None else format(100 * s["share"], ".1f")}</td>'
            for s in shares
        )
        lines.append(f"<tr><td>{_words(name)}</td><td>{kind}</td>{cells}</tr>")
    note = (
        "Share of images for which the answer is the prompt's (kind free) or the references' "
        "(outfit, identity)."
    )
    body = f"<table><thead><tr>{head}</tr></thead>{''.join(lines)}</table>"
    return _section("By attribute", f'<p class="soft">{note}</p><div class="scroll">{body}</div>')


def data_uri(image: np.ndarray, scale: int = 1) -> str:
    """Returns an image [H, W, 3] in [-1, 1] as the `src` of an HTML picture."""
    buffer = io.BytesIO()
    enlarge(Image.fromarray(to_uint8(image)), scale).save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(data: bytes) -> str:
    """Returns a PNG file as the `src` of an HTML picture."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
