"""One form of tags, in which they are compared: `Blue_Hair`, `(blue hair:1.2)` -> `blue hair`.

Tags come as Danbooru writes them (underscores), as taggers and caption tools write them (spaces,
backslashes before parentheses, quotes), as prompts weight them (parentheses, brackets, `:1.2`,
NovelAI's `1.2::blue hair::`), and as language models list them (`- **blue hair**`, `and hat.`).
"""

import functools
import html
import re
import unicodedata

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_ESCAPED = re.compile(r"\\([()\[\]{}<>_:,.'\"\\-])")
_HIDDEN = 0xE000  # escaped characters stand in Unicode's private use area while weights are read
_SHOWN = re.compile("[\ue000-\ue0ff]")
_WEIGHT = re.compile(r"(?<=[^\s:]):\s*[+-]?(\d+\.?\d*|\.\d+)$")
_POWER = re.compile(r"(?<=^\()(.*\))\s*([+-]+|\d*\.?\d+)$")  # InvokeAI's: (blue hair)1.2
_QUALIFIERS = re.compile(r"(\s*\([^()]*\))+$")
_NUMBERED = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)::|::$")  # one of them where a list was split
_SEPARATOR = re.compile(  # kohya's behind the tags that stay first; A1111's words
    r"[,，、；\t\n\r]|\|\|\||(?<![A-Z] )\bBREAK\b|(?<=[^A-Z\s]) AND (?=\S)"
)
_OTHERS = re.compile(  # but `;)`, `;d` and `|_|` are tags, and {blonde|red} is a choice of words
    r"(?<=[\w)\]}>]);(?=\s|\w|$)|\s\|\s|(?<=[^\W_]{2})\|(?=[^\W_]{2})(?![^{}()\[\]]{0,99}[})\]])"
)
_TITLES = "".join(rf"(?<!\b{title})" for title in "mrs prof capt sgt gen rev vol inc ltd".split())
_STOPS = re.compile(rf"(?<=[^\W_]{{3}}){_TITLES}\.(?:\s+|$)", re.IGNORECASE)  # not: mr. fuji
_BULLET = re.compile(r"^(?:[-*•]|\d{1,3}[.)])\s+(?=.*[^\W\d_]{2})")
_AND = re.compile(r"^and\s+(?=\w)", re.IGNORECASE)
_LAST_STOP = re.compile(r"(?:(?<=[^\W\d_]{3})|(?<=[)\]}]))\.$")  # not: b.b.
_SCORE = r"(?:0?\.\d+|1\.0*|\d{1,3}(?:\.\d+)? ?%)"  # a tagger's: 0.98, 98.1 %
_SCORED = re.compile(  # `blue_hair: 0.98`, `blue_hair (0.98)`, `0.98 blue_hair`
    rf"(?P<tag>(?=.*[^\d\s.e+-]).*?\S)(?:\s*(?:[:=|]|->)\s*|\s+)(?:{_SCORE}|\({_SCORE}\))|{_SCORE}\s+(?P<behind>.+)"
)
_LISTED = re.compile(r"\[\s*(['\"])(.*)\1\s*\]", re.DOTALL)  # a list as JSON or Python writes it
_ENTITY = re.compile(r"&(#\d+|#[xX][0-9a-fA-F]+|\w+);")  # of HTML, as Gelbooru's answers have them
_PLAIN = dict.fromkeys(map(ord, "\0\u200b\u200c\u200d\u2060\ufeff"))
_PLAIN |= str.maketrans("“”„‘’", '"""\'\'')
_OF_SENTENCES = frozenset(
    "a an the is are has wears wearing while he her his she their they he's she's they're".split()
)
_JOINING = frozenset("and with".split())
_OWNERS = frozenset("own another another's other's others' someone's".split())
_LIMBS = frozenset(
    "arm arms face feet finger fingers foot hand hands head leg legs thumb thumbs".split()
)
_LONG = 4  # words that few tags have
_EMOTICON = re.compile(r"\w\w")  # what has no two letters together is an emoticon, such as `:(`


@functools.lru_cache(maxsize=1 << 16)
def normal(tag: str) -> str:
    """Returns a tag as it is compared: lower case, spaces, without escapes and weights.

    A qualifier stays: `Sendai \\(Kantai_Collection\\)` -> `sendai (kantai collection)`; see `bare`.
    """
    return _normal(tag, is_name=False)


def name(text: str) -> str:
    """Returns a name as it is compared: as a tag, but a number before it or a full stop is its own.

    `1. Girl` and `2. Girl` are two.
    """
    return _normal(text, is_name=True)


def _normal(tag: str, *, is_name: bool) -> str:
    text = unicodedata.normalize("NFKC", unescaped(tag)).translate(_PLAIN).strip()
    if _EMOTICON.search(text):
        text = text if is_name else _without_marks(text)
        text = _ESCAPED.sub(lambda found: chr(_HIDDEN + ord(found[1])), text)
        text = _without_weight(_NUMBERED.sub("", text).strip()).strip('"`')
        text = text[1:-1].strip() if text[:1] == text[-1:] in ("'", "*") else text
        text = text if is_name else _LAST_STOP.sub("", text)
        text = _SHOWN.sub(lambda found: chr(ord(found[0]) - _HIDDEN), text)
    return " ".join(text.replace("_", " ").split()).lower()


def bare(tag: str) -> str:
    """Returns the normal form without qualifiers: `sendai_(kantai_collection)` -> `sendai`."""
    text = normal(tag)
    return _QUALIFIERS.sub("", text) or text


def unescaped(text: str) -> str:
    """Returns a text with the characters that HTML writes as `&#039;` or `&lt;`."""
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


def split(text: str) -> list[str]:
    """Splits tags as people write them: by commas (also of Chinese and Japanese), lines, BREAK or
    AND, else by semicolons or bars, else by full stops, else by spaces (as Danbooru); HTML's
    characters are unescaped, and what marks an item of a list (`- `, `1. `) is left out.

    A text without these is split by spaces where underscores say that a tag has none. Scores of a
    tagger, where all tags have one, are left out.
    """
    text = unescaped(text)
    if listed := _LISTED.fullmatch(text.strip()):
        text = ",".join(re.split(r"['\"]\s*,\s*['\"]", listed[2]))
    text = _without_scores(text)
    is_of_words = any(map(_has_underscore, text.split()))  # as Danbooru's, where stops are letters
    separators = (_SEPARATOR, _OTHERS) if is_of_words else (_SEPARATOR, _OTHERS, _STOPS)
    separator = next((s for s in separators if s.search(text.strip().rstrip("."))), None)
    if separator:
        parts = separator.split(text)
    else:
        parts = text.split() if is_of_words else [text]
    return [part for part in (_BULLET.sub("", p.strip()) for p in parts) if part]


def _without_scores(text: str) -> str:
    parts = [part for part in (p.strip() for p in re.split(r"[,\n\r;]", text)) if part]
    if len(parts) == 1 and not re.search(r"[:=(|]|->", text):
        return text  # a tag with a number, such as `20% cooler`
    found = [_SCORED.fullmatch(part) for part in parts]
    return ", ".join(m["tag"] or m["behind"] for m in found if m) if all(found) else text


def is_sentence(text: str) -> bool:
    """Returns whether a text has words that sentences have, such as captions, and tags do not."""
    return not _OF_SENTENCES.isdisjoint(text.lower().split())


def is_clause(text: str) -> bool:
    """Returns whether a text is a sentence, or longer than tags are: "sitting in red dress".

    Tags of poses ("hand in own hair", "hands in opposite sleeves") are not.
    """
    words = text.lower().split()
    if is_sentence(text):
        return True
    if not _OWNERS.isdisjoint(words):
        return len(words) > _LONG
    shortest = _LONG + (not _LIMBS.isdisjoint(words[:1]))
    return len(words) >= shortest or not _JOINING.isdisjoint(words)


def _has_underscore(word: str) -> bool:
    return re.search(r"\w_\w", word) is not None


def _without_marks(text: str) -> str:
    """Removes what a language model writes around a tag: `- **blue hair**`, `and blue hair`."""
    return _LAST_STOP.sub("", _AND.sub("", _BULLET.sub("", text).replace("**", "")))


def _without_weight(text: str) -> str:
    """Removes brackets around all of a tag, or left by a split inside of them, and a weight."""
    text, weighted = _POWER.sub(r"\1", text), False
    while text:
        partner = _partners(text)
        if text[0] in _PAIRS and partner.get(0) in (None, len(text) - 1):
            text = text[1 : partner[0] if 0 in partner else None].strip()
        elif text[-1] in _PAIRS.values() and len(text) - 1 not in partner.values():
            text = text[:-1].strip()
        else:
            break
        weighted = True
        text = _WEIGHT.sub("", text).strip()
    return text if weighted else re.sub(r"(?<=[^\s:]):\d*\.\d+$", "", text).strip()


def _partners(text: str) -> dict[int, int]:
    """Returns place of a bracket -> place of the bracket that closes it."""
    found: dict[int, int] = {}
    waiting: list[int] = []
    for place, letter in enumerate(text):
        if letter in _PAIRS:
            waiting.append(place)
        elif waiting and letter == _PAIRS[text[waiting[-1]]]:
            found[waiting.pop()] = place
    return found
