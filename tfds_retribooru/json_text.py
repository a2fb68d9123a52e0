"""JSON values of any form out of text: what `json_stream` reads where a line is not one value.

One value behind another, over any number of lines; the elements of a list; the list in a wrapper
({"posts": [...]}); the values of an object whose keys are ids; what `gallery-dl --dump-json` says
of files. Elements of a list are read one by one, so it may be longer than memory.
"""

import codecs
import itertools
import json
import re
from collections.abc import Generator, Iterator

from tfds_retribooru import json_values
from tfds_retribooru.json_values import Document
from tfds_retribooru.text_files import Utf8Source

_BLANK = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,\ufeff\x1e]*")  # what may separate documents
_LIST = rf'"(?:{"|".join(json_values.WRAPPERS)})"\s*:\s*\['
_ABOUT = (  # members of an answer that say something of it
    "code count limit message next offset page pages per_page prev previous status success time "
    "title total total_count version"
)
_WRAPPED = re.compile(  # the attributes are Gelbooru's
    r'\{\s*(?:"@attributes"\s*:\s*\{[^{}]*\}\s*,\s*)?'
    rf'(?:"(?:{_ABOUT.replace(" ", "|")})"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*{_LIST}'
)
_KINDS = re.compile(r'"tags"\s*:\s*\{\s*"[^"]*"\s*:\s*"')  # the beginning of json_values.kinds
_WHOLE = 1 << 22  # characters of a wrapper in which they are looked for
_LOOK_AHEAD = 1 << 10  # characters in which the beginning of a wrapper is looked for
_FIRST = 1 << 12  # bytes that are read at first; then twice as many each time
_SLACK = 16  # so near the end of the text, a value or an error may be one because it goes on
_TOP = r"\n(?=[\[{])"  # before a line that begins a document, or a list of them
_DECODER = json.JSONDecoder()


class _Damage(ValueError):
    """What stands at the reader's place is no JSON; `position` is where in the text that shows."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position


class Text:
    """Text of a source and the place of the reader in it.

    Bytes that are not UTF-8 are in it as surrogates, so that what was not used can be given back.
    """

    def __init__(self, source: Utf8Source, line: int, longest: int) -> None:
        """Begins at a line.

        Args:
            source: of the text.
            line: its number.
            longest: number of characters; a longer document is taken as damage.
        """
        self._source, self._line, self._longest = source, line, longest
        self._text, self._at, self._ended, self._size = "", 0, False, _FIRST
        self._indent: str | None = ""  # of the line; None behind its first mark
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._open: list[str] = []  # what closes the wrapper and the list that are open
        self._before = ""  # in a list: "[", "value" or ","
        self._kinds: dict[str, str] = {}  # of the tags in the wrapper that is open
        self._key: object = None  # of a wrapper's member behind its list
        self._closed = 0  # line where a list or a document outside of one ended last

    def documents(self, stop: int | None) -> Generator[Document, None, int]:
        """Yields documents, at least one or a fault; returns the number of the line behind them.

        It ends where lines of one document each seem to follow, or from position `stop` of the
        source on, and gives back what it did not use.
        """
        is_first = True
        while mark := self._next():
            if not is_first and not self._open and self._may_end(stop):
                break
            is_first, line = False, self._line
            try:
                yield from self._step(mark)
            except _Damage as damage:
                detail, _ = json_values.readable(self._text[self._at : self._at + 80])
                yield Document(line, detail, self._recover(damage.position))
        if self._open:
            yield Document(self._line, "", "truncated_list")
        rest = self._text[self._at :].encode("utf-8", "surrogateescape")
        self._source.give_back(rest + self._decoder.getstate()[0])
        return self._line

    def _may_end(self, stop: int | None) -> bool:
        if self._indent != "":
            return False
        if stop is not None and self._source.position >= stop:
            return True
        end = self._text.find("\n", self._at)
        return self._text[self._at : max(end, self._at)].rstrip("\r,").endswith("}")

    def _step(self, mark: str) -> Iterator[Document]:
        """Reads what `mark` begins.

        Raises:
            _Damage: it does not belong there.
        """
        line = self._line
        if not self._open:
            yield from self._top(mark)
        elif self._open[-1] == "}":  # behind the list of a wrapper: its other members
            if mark == "}":
                self._open.pop()
            if mark in "},:":
                self._advance(self._at + 1)
            else:
                value, _ = self._value()
                if json_values.is_another_list(self._key, value):
                    yield Document(line, self._key, "second_list")
                self._key = value if isinstance(value, str) else None
        elif mark == "]":  # also behind a comma, as people write lists
            self._open.pop()
            self._closed = line
            self._advance(self._at + 1)
        elif mark == "," and self._before == "value":
            self._before = ","
            self._advance(self._at + 1)
        elif self._before == "value":
            raise _Damage(self._at)
        else:
            value, fault = self._value()
            self._before = "value"
            for held in json_values.of_element(value):
                yield Document(line, json_values.with_kinds(held, self._kinds), fault)

    def _top(self, mark: str) -> Iterator[Document]:
        line = self._line
        if mark == "[":
            self._open, self._before, self._kinds = ["]"], "[", {}
            self._advance(self._at + 1)
            return
        while len(self._text) - self._at < _LOOK_AHEAD and self._more():
            pass
        if found := _WRAPPED.match(self._text, self._at):
            length = found.end() - found.start()
            wrapper = self._read_wrapper()  # reads on, which moves the place
            if not json_values.has_several_lists(wrapper):
                self._kinds, self._key = json_values.kinds(wrapper), None
                self._open, self._before = ["}", "]"], "["
                self._advance(self._at + length)
                return
        documents = json_values.unwrapped(line, *self._value())
        self._closed = self._line
        yield from documents

    def _read_wrapper(self) -> object:
        """Returns a wrapper with more than one list, or kinds of tags; None for others.

        Kinds often stand behind the list. Of longer and damaged ones nothing is known before.
        """
        while len(self._text) - self._at < _WHOLE and self._more():
            pass
        lists = itertools.islice(re.finditer(_LIST, self._text[self._at :]), 2)
        if len(list(lists)) < 2 and not _KINDS.search(self._text, self._at):
            return None
        try:
            return _DECODER.raw_decode(self._text, self._at)[0]
        except (ValueError, RecursionError):
            return None

    def _value(self) -> tuple[object, str]:
        """Reads a value; returns it and a fault.

        Raises:
            _Damage: there is none.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                near = len(self._text) - error.pos < _SLACK or error.msg.startswith("Unterminated")
                if not (near and self._more()):
                    raise _Damage(error.pos) from None
            except (RecursionError, ValueError):  # nested too deep, a number too long
                raise _Damage(self._at) from None
            else:
                if len(self._text) - end >= _SLACK or not self._more():
                    break
        text = self._text[self._at : end]
        self._advance(end)
        text, fault = json_values.readable(text)
        value, half = json_values.without_halves(json.loads(text) if fault else value, text)
        return value, fault or half

    def _recover(self, position: int) -> str:
        """Goes on to the next document, or to the end; returns the name of the fault."""
        if len(self._text) - self._at > self._longest:
            self._source.drop()
            self._text, self._at, self._ended = "", 0, True
            self._open.clear()
            return "too_long"
        alike = _TOP if self._indent is None else rf"\n(?P<alike>(?={re.escape(self._indent)}\{{))"
        if not self._open:
            newline = self._text.find("\n", self._at)
            is_one_line = newline < 0 or position <= newline
            is_behind = self._closed == self._line
            self._skip("\n" if is_one_line else f"{alike}|{_TOP}")
            return "truncated_list" if is_behind else "bad_json"
        found = self._skip(f"{alike}|{_TOP}")
        if found and found.groupdict().get("alike") is not None and self._open[-1] == "]":
            self._before = ","
            return "bad_json"
        self._open.clear()
        return "truncated_list"

    def _skip(self, pattern: str) -> re.Match[str] | None:
        """Goes to the end of what the pattern finds, or of the text; a match begins a line."""
        search = re.compile(pattern).search
        while not (found := search(self._text, self._at)):
            newline = self._text.rfind("\n", self._at)
            self._advance(newline if newline >= 0 else len(self._text))
            if not self._more():
                self._advance(len(self._text))
                return None
        self._advance(found.end())
        self._indent = ""
        return found

    def _next(self) -> str:
        """Skips what is blank; returns the mark behind it, "" at the end."""
        blank = _BLANK if self._open else _BETWEEN
        while True:
            start = self._at
            self._at = next(blank.finditer(self._text, start)).end()  # may be empty
            skipped = self._text[start : self._at]
            if "\n" in skipped:
                self._line += skipped.count("\n")
                self._indent = skipped.rpartition("\n")[2]
            elif self._indent is not None:
                self._indent += skipped
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at, self._indent = end, None

    def _more(self) -> bool:
        """Reads on, at least as much as is held; returns whether the text may be longer."""
        held = len(self._text) - self._at
        if self._ended or held > self._longest:
            return False
        data = self._source.take(max(min(self._size, self._source.block), held))
        self._size *= 2
        self._ended = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, final=self._ended)
        self._at = 0
        return True
