"""Questions made from Danbooru tags by the rules of question_rules.toml.

A rule takes a tag to a question, the wanted answer and a kind: "red skirt" -> "what color is the
skirt?", "red", outfit. So any data with tags can be scored by a VQA model that was trained on
anything: `complete` gives a data set's vocabulary the questions that it lacks.
"""

import dataclasses
import functools
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfds_retribooru import tag_text

RULES = Path(__file__).with_name("question_rules.toml")
KINDS = ("identity", "outfit", "free")
YES = "yes"
_ANY = "*"
_SLOT = re.compile(r"\{([^{}]*)\}")
_UNCOUNTED = (  # nouns without an article
    *("armor", "footwear", "underwear", "lingerie", "legwear", "headwear", "eyewear", "lace"),
    *("headgear", "hair", "food", "grass", "water"),
)
_FIELDS = {"class", "kind", "answer", "ask", "same"}

Vocabulary = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked about a tag.

    Attributes:
        attribute: names what is asked; tags with the same question share it.
        text: the question.
        answer: the wanted one.
        kind: "identity", "outfit" or "free".
        same: what a model may say -> the answer that it counts as.
    """

    attribute: str
    text: str
    answer: str
    kind: str
    same: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a data set's tags is asked about.

    Attributes:
        share: of all occurrences of tags.
        tags: number of different tags that are asked about.
        uncovered: (tag, share of all occurrences) of the others, the most frequent first.
    """

    share: float
    tags: int
    uncovered: Sequence[tuple[str, float]]


class Rules:
    """The rules of a file."""

    def __init__(self, path: Path = RULES) -> None:
        """Reads the file.

        Raises:
            ValueError: it holds no rules, or one without sense, which is named.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            self._words: dict[str, list[str]] = content["words"]
            self._same = {name: _meanings(lists) for name, lists in content["same"].items()}
            rules: list[dict[str, Any]] = content["rule"]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} holds no rules: {error}") from error
        self._exact: dict[str, Question] = {}
        self._open: list[tuple[re.Pattern[str], dict[str, Any], str, str]] = []
        self._names: dict[str, str] = {}  # question -> attribute
        for rule in rules:
            try:
                self._add(rule)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                name = rule.get("class")
                raise ValueError(f"{path}: the rule {name!r} has no sense: {error}") from error

    def question(self, tag: str) -> Question | None:
        """Returns what is asked about a tag in any spelling; None where no rule names it."""
        normal = tag_text.normal(tag)
        if normal in self._exact:
            return self._exact[normal]
        for pattern, rule, text, answer in self._open:
            if found := pattern.fullmatch(normal):
                words = {_ANY if k == "any" else k: word for k, word in found.groupdict().items()}
                return self._make(rule, normal, text=text, answer=answer, words=words)
        return None

    def _add(self, rule: dict[str, Any]) -> None:
        """Adds the tags of a rule; raises where it has no sense."""
        if unknown := rule.keys() - _FIELDS:
            raise ValueError(f"a rule has no {', '.join(sorted(unknown))}")
        if rule["kind"] not in KINDS:
            raise ValueError(f"kind {rule['kind']!r} is none of {', '.join(KINDS)}")
        for tags, asked in rule["ask"].items():
            text, answer = (asked, rule.get("answer", YES)) if isinstance(asked, str) else asked
            for tag in (part.strip() for part in tags.split(",")):
                self._add_tag(rule, tag, text=text, answer=answer)

    def _add_tag(self, rule: dict[str, Any], tag: str, *, text: str, answer: str) -> None:
        slots = list(dict.fromkeys(_SLOT.findall(tag)))
        if _ANY in slots:
            self._open.append((re.compile(_SLOT.sub(self._group, tag)), rule, text, answer))
            return
        for values in itertools.product(*(self._words[slot] for slot in slots)):
            words = dict(zip(slots, values, strict=True))
            filled = _fill(tag, words)
            if filled not in self._exact:
                self._exact[filled] = self._make(
                    rule, filled, text=text, answer=answer, words=words
                )

    def _group(self, slot: re.Match[str]) -> str:
        """Returns the group of a regular expression for a slot of a tag."""
        if slot[1] == _ANY:
            return r"(?P<any>\S.*?)"
        words = sorted(self._words[slot[1]], key=len, reverse=True)
        return f"(?P<{slot[1]}>{'|'.join(map(re.escape, words))})"

    def _make(
        self, rule: dict[str, Any], tag: str, *, text: str, answer: str, words: Mapping[str, str]
    ) -> Question:
        """Fills the slots of a question and of its answer."""
        text, answer = _fill(text, words), _fill(answer, words)
        same = self._same[rule["same"]] if "same" in rule else {}
        name = tag if answer == YES else _fill(rule["class"], words)
        return Question(
            attribute=self._names.setdefault(text, name),
            text=text,
            answer=same.get(answer, answer),
            kind=rule["kind"],
            same=same,
        )


@functools.cache
def default_rules() -> Rules:
    """Returns the rules that ship with the package."""
    return Rules()


def complete(
    vocabulary: Mapping[str, Any], rules: Rules | None = None, more_tags: Iterable[str] = ()
) -> Vocabulary:
    """Returns a vocabulary with questions about all tags that have a rule or a question of its own.

    What the vocabulary itself asks stays, and so do the kinds of its tags; a tag that it spells in
    another way (`Red_Hair`, "red hair") is that tag. `same` is added: question -> what a model may
    say -> the answer that it counts as.

    Args:
        vocabulary: of a data set, see tfds_retribooru/vocabulary.py.
        rules: None = those that ship.
        more_tags: that the vocabulary may lack; their kinds are those of the rules.
    """
    rules = rules or default_rules()
    own = dict(vocabulary["questions"])
    tags = dict(vocabulary["tags"])
    spelled = {tag_text.normal(tag): entry for tag, entry in tags.items()}
    others = [tag for tag in more_tags if tag not in tags]
    tags |= {tag: spelled[name] for tag in others if (name := tag_text.normal(tag)) in spelled}
    questions, same = dict(own), {}
    for tag in [*tags, *others]:
        entry = tags.get(tag, {})
        asked = None if entry.get("attribute") in own else rules.question(tag)
        if asked is None or asked.attribute in own:
            continue
        kind = entry.get("kind", asked.kind)
        tags[tag] = {"attribute": asked.attribute, "answer": asked.answer, "kind": kind}
        questions[asked.attribute] = asked.text
        same[asked.text] = dict(asked.same)
    return {**vocabulary, "tags": tags, "questions": questions, "same": same}


def coverage(tags: Iterable[Iterable[str]], vocabulary: Mapping[str, Any]) -> Coverage:
    """Counts what a vocabulary asks about.

    Args:
        tags: of each record.
        vocabulary: of `complete`.
    """
    counts = Counter(tag for record in tags for tag in record)
    total = max(counts.total(), 1)
    known = {
        tag
        for tag, entry in vocabulary["tags"].items()
        if entry["attribute"] in vocabulary["questions"]
    }
    uncovered = [(tag, n / total) for tag, n in counts.most_common() if tag not in known]
    covered = sum(n for tag, n in counts.items() if tag in known)
    return Coverage(covered / total, len(known & counts.keys()), uncovered)


def _meanings(lists: Iterable[Sequence[str]]) -> dict[str, str]:
    """Returns answer -> the first of its list, for all but the first."""
    return {said: first for first, *others in lists for said in others}


def _fill(text: str, words: Mapping[str, str]) -> str:
    """Fills the slots of a text: {color}, {a color}, {a * garment}, {is garment}."""

    def filled(slot: re.Match[str]) -> str:
        first, *rest = slot[1].split()
        if not rest:
            return words[first]
        phrase = " ".join(words[name] for name in rest)
        last = phrase.split()[-1]
        is_plural = last.endswith("s") and not last.endswith("ss")
        if first == "is":
            return f"{'are' if is_plural else 'is'} the {phrase}"
        if first != "a":
            raise ValueError(f"{slot[0]} is neither {{a ...}} nor {{is ...}}")
        if is_plural or last in _UNCOUNTED:
            return phrase
        return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"

    return _SLOT.sub(filled, text)
