"""Kinds of tags: "identity" (a face reference carries it), "outfit" (clothes do), "free" (neither).

The kinds are read from files of lines, `kinds/{identity,outfit,free}.txt` of this package; the
first explains the lines. A user's own file (`OWN`) has all three kinds, each under a line
`[identity]`, `[outfit]` or `[free]`, and goes before them.
"""

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterable, Sequence

from tfds_retribooru import tag_text

KINDS = ("identity", "outfit", "free")
OWN = "kinds.txt"  # a user's file, beside the data set
_FOLDER = pathlib.Path(__file__).parent / "kinds"
_CLOTHING = pathlib.Path(__file__).parent / "collect" / "clothing.txt"
# From one of these on a tag says where or in what state the thing is: "hair over one eye".
_PLACES = frozenset(
    "above across against around as at before behind below beside between by for from in inside "
    "into near of on onto outside over past through to under with without".split()
)
_STATES = frozenset(
    "back down draped half loose off open out pinned pulled rolled slicked tied tucked undone up "
    "worn wrapped".split()
)
_FILLERS = _PLACES | frozenset("a an and her his is it its that the their there this who".split())
_COLOR = re.compile(
    r"^((light|dark) )?(aqua|beige|black|blue|brown|cyan|gold(en)?|gr[ae]y|green|lavender|orange|"
    r"pink|purple|red|silver|tan|teal|white|yellow) (?=\w)"
)

_PHRASE = 3  # words of the longest tag that is looked for in a sentence
_LONGEST = 32  # words of the longest beginning or end, and more letters than an ending has
_OF_ANYTHING = frozenset(  # before the name of a thing they tell nothing of who is shown
    "african asian chinese european fair fat indian japanese korean mature old pale slim tall "
    "thin".split()
)
CLASSES = frozenset(  # words for anybody, as in kohya's names of folders: 10_sls woman
    "1boy 1girl adult anime baby boy boys character characters child face faces female girl girls "
    "guy human kid lady male man manga men people person photo portrait style woman women".split()
)
_ARTICLES = frozenset("a an the".split())
_ASPECT = re.compile(r" (colou?r|length|style|type|shape|size)s?$")  # "hair color: red"
_NAMESPACE = re.compile(r"^(\w+:)(?=\w)")  # as Hydrus and Philomena write "character:sendai"


@dataclasses.dataclass
class Lines:
    """Lines of kinds, by how they are looked up; all texts as `_words` returns them.

    Attributes:
        exact: tag -> kind.
        heads: first words -> kind.
        tails: last words -> kind.
        endings: ending of the last word -> kind.
    """

    exact: dict[str, str] = dataclasses.field(default_factory=dict)
    heads: dict[str, str] = dataclasses.field(default_factory=dict)
    tails: dict[str, str] = dataclasses.field(default_factory=dict)
    endings: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, lines: Iterable[str], kind: str) -> None:
        """Adds lines; what is there stays. Plurals of names of things are added, too."""
        for line in lines:
            words = _apart(line.strip("*").lower().replace("_", " "))
            place = self.exact
            if line.endswith("*"):
                place = self.heads
            elif line.startswith("*"):
                place = self.tails if line.startswith("* ") else self.endings
            place.setdefault(words, kind)
            if kind != "free" and place is not self.heads:
                place.setdefault(_plural(words), kind)

    def head(self, words: str) -> str | None:
        """Returns the kind of the longest beginning."""
        parts = words.split()
        beginnings = (" ".join(parts[:n]) for n in range(min(len(parts), _LONGEST), 0, -1))
        return next((self.heads[b] for b in beginnings if b in self.heads), None)

    def tail(self, words: str) -> str | None:
        """Returns the kind of the longest end; one that is a place ("in hair") tells no kind."""
        parts = words.split()
        place = _place(parts)
        first = max(0, len(parts) - _LONGEST)
        ends = (" ".join(parts[n:]) for n in range(first, min(place + 1, len(parts))))
        found = next((self.tails[e] for e in ends if e in self.tails), None)
        if found is None and place == len(parts) > 0:
            last = parts[-1]
            ends = (last[n:] for n in range(max(0, len(last) - _LONGEST), len(last)))
            found = next((self.endings[e] for e in ends if e in self.endings), None)
        return found


class Kinds:
    """Tells the kind of a tag of one data set.

    What decides, in this order: the user's file; the clothing tags (`cloths`) and the names of the
    records; a line of this package that is the tag itself, or its beginning; a clothing tag that,
    without its colour, the tag ends with ("red shirt": "blue shirt"); a line that the tag ends
    with; what stands before its colon ("eye color: blue"). Any other is free. Of sentences and
    clauses that are no line, the tags in it decide too: "holding a hat and wearing a red dress".
    """

    def __init__(
        self, cloths: Iterable[str] = (), names: Iterable[str] = (), own: str = ""
    ) -> None:
        """Makes the kinds of a data set.

        Args:
            cloths: clothing tags of its records.
            names: of its characters.
            own: content of the user's file.

        Raises:
            ValueError: a line of the user's file belongs to no kind.
        """
        self._own = parse(own)
        self._known = Lines()
        forms = (form for tag in cloths for form in (tag_text.normal(tag), tag_text.bare(tag)))
        garments = [garment for form in forms for garment in (form, _COLOR.sub("", form))]
        self._known.add(garments, "outfit")
        self._known.add((f"* {garment}" for garment in garments), "outfit")
        for name in names:
            self._known.exact.setdefault(_words(name), "identity")
        self._of_phrase = functools.lru_cache(maxsize=1 << 16)(self._of)  # sentences repeat them

    def of(self, tag: str) -> str:
        """Returns the kind of a tag in any spelling."""
        words, bare = _words(tag), _words(tag_text.bare(tag))
        if kind := self._of_own(words):
            return kind
        if all(self._exact(form) == "free" for form in (words, bare)):
            return "free"  # a name of words: "lord of the rings"
        key, colon, _ = words.partition(": ")
        if colon and package_lines().heads.get(f"{key}:") == "free":
            return "free"  # "title: the girl with red hair"
        forms = [words, bare, _thing(bare), _ASPECT.sub("", key) if colon else ""]
        found = [next(filter(None, map(self._of, dict.fromkeys(forms))), "free")]
        is_clause = found == ["free"] and tag_text.is_clause(tag_text.bare(tag))
        if is_clause or tag_text.is_sentence(tag_text.normal(tag)):
            found.append(self._of_sentence(words))
        return min(found, key=KINDS.index)

    def _of_sentence(self, words: str) -> str:
        """Returns "identity" where a sentence names looks, else "outfit" where it names clothes."""
        parts = [word for word in re.findall(r"[\w']+", words) if word not in _ARTICLES]
        found, free_until = {"free"}, 0
        for place, first in enumerate(parts):
            if place < free_until or first in _FILLERS:
                continue
            kind, length = self._of_beginning(parts[place : place + _PHRASE])
            found.add(kind)
            free_until = place + length
        return next(kind for kind in KINDS if kind in found)

    def _of_beginning(self, parts: list[str]) -> tuple[str, int]:
        """Returns the kind of the longest tag at the beginning, and its words if it is free."""
        for length in range(len(parts), 0, -1):
            phrase = parts[:length]
            kind = self._of_phrase(" ".join(phrase))
            if kind == "free":
                return kind, length
            is_of_thing = phrase[-1] in _OF_ANYTHING and not _FILLERS.issuperset(parts[1:2])
            if kind and "and" not in phrase and not (length == 1 and is_of_thing):
                return kind, 0
        return "free", 0

    def _of_own(self, words: str) -> str | None:
        own = self._own
        return own.exact.get(words) or own.head(words) or own.tail(words)

    def _exact(self, words: str) -> str | None:
        return self._known.exact.get(words) or package_lines().exact.get(words)

    def _of(self, words: str) -> str | None:
        known, package = self._known, package_lines()
        return (
            self._of_own(words)
            or self._exact(words)
            or package.head(words)
            or known.tail(words)
            or package.tail(words)
        )


def _place(parts: Sequence[str]) -> int:
    """Returns the number of the words before a place ("hair | over one eye"): all if none is."""
    places = (n for n, word in enumerate(parts) if n and word in _PLACES)
    return next(places, len(parts))


def _thing(words: str) -> str:
    """Returns a tag without place and state: "hair over one eye", "hair tied back" -> "hair"."""
    parts = words.split()
    ends = (n for n, word in enumerate(parts) if n and word in _PLACES | _STATES)
    return " ".join(parts[: next(ends, len(parts))])


@functools.cache
def package_lines() -> Lines:
    """Returns the lines of this package."""
    lines = Lines()
    for kind in reversed(KINDS):  # what is free has no plurals made by rule, and its lines stay
        lines.add(read_lines((_FOLDER / f"{kind}.txt").read_text(encoding="utf-8")), kind)
    lines.add(read_lines(_CLOTHING.read_text(encoding="utf-8")), "outfit")
    return lines


def parse(own: str) -> Lines:
    """Reads a user's file.

    Raises:
        ValueError: a line stands under none of the headings; it is named.
    """
    lines, kind = Lines(), ""
    for line in read_lines(own):
        heading = re.fullmatch(r"\[\s*([^\W\d_]+)\s*\]:?", line)
        if heading and heading[1].lower() not in KINDS:
            raise ValueError(f"{line!r} is no kind: the kinds are [identity], [outfit] and [free]")
        if heading:
            kind = heading[1].lower()
        elif not kind:
            raise ValueError(
                f"{line!r} stands under no kind; begin the file with a line [identity], [outfit] "
                "or [free], and write a tag a line below"
            )
        else:
            lines.add(_normal_lines(line), kind)
    return lines


def _normal_lines(line: str) -> list[str]:
    """Returns the lines that a user's line stands for: one or more by comma, in the normal form."""
    found = []
    for part in re.split(r"[,，、]|(?<=[\w)\]}\"]);(?=\s|$)", line):
        if tag := part.strip("* \t"):
            is_qualifier = "*" in part and re.fullmatch(r"\([^()]*\)", tag)  # * (cosplay)
            normal = tag.lower() if is_qualifier else tag_text.normal(tag)
            found.append(part.strip().replace(tag, normal, 1))
    return found


def read_lines(text: str) -> list[str]:
    """Returns the lines without comments and empty ones."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def digest(own: str) -> str:
    """Returns what changes when the kinds of this package, or those of the user's file, do."""
    texts = [(_FOLDER / f"{kind}.txt").read_bytes() for kind in KINDS]
    texts += [_CLOTHING.read_bytes(), own.encode()]
    texts += [pathlib.Path(module).read_bytes() for module in (__file__, tag_text.__file__)]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def _words(text: str) -> str:
    """Returns the normal form with spaces for hyphens: how lines and tags are compared."""
    return _apart(tag_text.normal(text))


def _apart(text: str) -> str:
    """Returns words with single spaces, also for hyphens and behind a namespace ("series: ...")."""
    return " ".join(_NAMESPACE.sub(r"\1 ", text.replace("-", " ")).split())


def _plural(words: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", words):
        return words + "es"
    if re.search(r"[^aeiou]y$", words):
        return words[:-1] + "ies"
    return words + "s"
