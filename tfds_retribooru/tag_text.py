"""One form of tags, in which they are compared: `Blue_Hair`, `(blue hair:1.2)` -> `blue hair`.

Tags come as Danbooru writes them (underscores), as taggers and caption tools write them (spaces,
backslashes before parentheses, quotes) and as prompts weight them (parentheses, brackets, `:1.2`,
NovelAI's `1.2::blue hair::`).
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
_SEPARATOR = re.compile(  # the last is kohya's, behind the tags that stay first
    r"[,，、；\t\n\r]|\|\|\|"
)
_OTHERS = re.compile(r"(?<=[\w)\]}>]);(?=\s|\w|$)|\s\|\s")  # but `;)` and `;d` are tags
_SCORE = r"(?:0?\.\d+|1\.0*|\d{1,3}(?:\.\d+)? ?%)"  # a tagger's: 0.98, 98.1 %
_SCORED = re.compile(  # `blue_hair: 0.98`, `blue_hair (0.98)`, `0.98 blue_hair`
    rf"(?P<tag>(?=.*[^\d\s.e+-]).*?\S)(?:\s*(?:[:=|]|->)\s*|\s+)(?:{_SCORE}|\({_SCORE}\))|{_SCORE}\s+(?P<behind>.+)"
)
_LISTED = re.compile(r"\[\s*(['\"])(.*)\1\s*\]", re.DOTALL)  # a list as JSON or Python writes it
_ENTITY = re.compile(r"&(#\d+|#[xX][0-9a-fA-F]+|\w+);")  # of HTML, as Gelbooru's answers have them
_INVISIBLE = dict.fromkeys(map(ord, "\0\u200b\u200c\u200d\u2060\ufeff"))
_OF_SENTENCES = frozenset("a an the is are has wears".split())
_EMOTICON = re.compile(r"\w\w")  # what has no two letters together is an emoticon, such as `:(`


@functools.lru_cache(maxsize=1 << 16)
def normal(tag: str) -> str:
    """Returns a tag as it is compared: lower case, spaces, without escapes and weights.

    A qualifier stays: `Sendai \\(Kantai_Collection\\)` -> `sendai (kantai collection)`; see `bare`.
    """
    text = unicodedata.normalize("NFKC", unescaped(tag)).translate(_INVISIBLE).strip()
    if _EMOTICON.search(text):
        text = _ESCAPED.sub(lambda found: chr(_HIDDEN + ord(found[1])), text)
        text = _without_weight(_NUMBERED.sub("", text).strip()).strip('"')
        text = text[1:-1].strip() if text[:1] == text[-1:] == "'" else text
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
    """Splits tags as people write them: by commas (also of Chinese and Japanese), else by lines,
    else by semicolons or bars, else by spaces (as Danbooru); HTML's characters are unescaped.

    A text without these is split by spaces where underscores say that a tag has none. Scores of a
    tagger, where all tags have one, are left out.
    """
    text = unescaped(text)
    if listed := _LISTED.fullmatch(text.strip()):
        text = ",".join(re.split(r"['\"]\s*,\s*['\"]", listed[2]))
    text = _without_scores(text)
    separator = next((s for s in (_SEPARATOR, _OTHERS) if s.search(text.strip())), None)
    if separator:
        parts = separator.split(text)
    else:
        words = text.split()
        parts = words if len(words) > 1 and any(map(_has_underscore, words)) else [text]
    return [part for part in (p.strip() for p in parts) if part]


def _without_scores(text: str) -> str:
    parts = [part for part in (p.strip() for p in re.split(r"[,\n\r;]", text)) if part]
    found = [_SCORED.fullmatch(part) for part in parts]
    return ", ".join(m["tag"] or m["behind"] for m in found if m) if all(found) else text


def is_sentence(text: str) -> bool:
    """Returns whether a text has words that sentences have, such as captions, and tags do not."""
    return not _OF_SENTENCES.isdisjoint(text.lower().split())


def _has_underscore(word: str) -> bool:
    return re.search(r"\w_\w", word) is not None


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
