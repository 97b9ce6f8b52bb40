"""YAML and JSON text to plain data, with the line and column of every value.

The rules differ from PyYAML's: booleans are only ``true`` and ``false`` (so the country ``NO``, and
``on``, ``off``, ``yes``, stay text); ``1e3`` is the number 1000.0, as in YAML 1.2 and JSON;
``010``, ``1_000``, ``12:30``, dates, ``.inf`` and ``.nan`` are text; keys are always text; an
empty value, ``~`` and ``null`` are nothing. Tags, several documents, and tabs where YAML wants
spaces are errors. A duplicate key is one too, but the first value stands in so that the rest can be
checked. Anchors, aliases and ``<<`` merges work within a bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from raylake.config.findings import Finding, Loc

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 40
MAX_VALUES: Final = 20_000
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39})")
_FLOAT: Final = re.compile(
    r"[-+]?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,3})?|[-+]?\.[0-9]{1,40}"
)
_NULLS: Final = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in the file; lines and columns count from 1.

    Attributes:
        line: The line.
        column: The column of its first character.
        end_line: The line of its end.
        end_column: The column after its last character.
    """

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that its mapping has already; its value is in no data.

    Attributes:
        finding: What is wrong.
        key: Where the key stands.
        value: Where its value stands.
        is_scalar: Whether that is no list and no mapping.
    """

    finding: Finding
    key: Position
    value: Position
    is_scalar: bool


@dataclass(slots=True)
class Parsed:
    """The data of a file and where each part of it stands.

    Attributes:
        data: Mappings, lists, text, numbers, booleans and None.
        values: The position of each value.
        keys: The position of the key of each value of a mapping.
        lines: The file's lines, for snippets.
        duplicates: Keys that their mapping has already.
    """

    data: dict[str, Any]
    lines: list[str]
    duplicates: list[Duplicate] = field(default_factory=list)
    values: dict[Loc, Position] = field(default_factory=dict)
    keys: dict[Loc, Position] = field(default_factory=dict)


class SyntaxProblem(Exception):
    """The file cannot be read as one document.

    Args:
        message: What is wrong.
        line: The line, from 1; 0 when the file as a whole is meant.
        column: The column, from 1.
        hint: What to do.
        lines: The file's lines, as far as they could be read.
    """

    def __init__(
        self, message: str, line: int = 0, column: int = 0, hint: str = "", loc: Loc = ()
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.hint, self.loc = message, line, column, hint, loc
        self.lines: list[str] = []


class _NodeLoader(yaml.SafeLoader):
    """Composes nodes only; every plain scalar stays text, and depth is bounded."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)
    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _at(event, "tags are not allowed", "leave the tag out")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _at(event, f"values are nested more than {MAX_DEPTH} deep")
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _at(item: Any, message: str, hint: str = "", loc: Loc = ()) -> SyntaxProblem:
    mark = item.start_mark
    return SyntaxProblem(message, mark.line + 1, mark.column + 1, hint, loc)


def parse(raw: bytes, *, json: bool = False) -> Parsed:
    """Reads one document whose top is a mapping.

    Args:
        raw: The file.
        json: Whether it is JSON, in which tabs may stand between values.

    Raises:
        SyntaxProblem: It is too large, empty, binary, not UTF-8, not YAML or JSON, or holds one of
            the things that the module refuses.
    """
    text = _decode(raw)
    # A raw tab cannot stand inside a JSON string, so each one is mere space.
    text = text.replace("\t", " ") if json else text
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)
    try:
        return _parse(text, lines)
    except SyntaxProblem as problem:
        problem.lines = lines
        raise
    except yaml.YAMLError as error:
        raise _explain(error, lines) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise SyntaxProblem(f"this is not YAML: {error}") from None


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise SyntaxProblem(f"the file is larger than {MAX_BYTES // 1024} KiB")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SyntaxProblem("the file is UTF-16", hint="save it as UTF-8")
    if b"\0" in raw:
        raise SyntaxProblem("this is a binary file", hint="give the path of a YAML or JSON file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        byte = raw[error.start]
        raise SyntaxProblem(
            f"the byte 0x{byte:02x} is not UTF-8", line, column, "save the file as UTF-8"
        ) from None


def _parse(text: str, lines: list[str]) -> Parsed:
    loader = _NodeLoader(text)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    if root is None or (isinstance(root, ScalarNode) and root.value in _NULLS and not root.style):
        hint = "the smallest one has pipeline, lake, kafka and bronze"
        raise SyntaxProblem("the file is empty", hint=hint)
    if not isinstance(root, MappingNode):
        raise _at(root, "the file is not a mapping", "it begins with a line such as 'pipeline: …'")
    parsed = Parsed({}, lines)
    parsed.data = _Builder(parsed).mapping(root, (), 0)
    return parsed


class _Builder:
    """Turns nodes into data; aliases are expanded, up to a bound."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._count = 0

    def value(self, node: Node, loc: Loc, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _at(node, f"the file has more than {MAX_VALUES} values, aliases expanded")
        if depth > MAX_DEPTH:
            raise _at(node, f"values are nested more than {MAX_DEPTH} deep (an alias in itself?)")
        self._parsed.values[loc] = _position(node)
        if isinstance(node, MappingNode):
            return self.mapping(node, loc, depth)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*loc, i), depth + 1) for i, item in enumerate(node.value)]
        return _scalar(node) if isinstance(node, ScalarNode) else None

    def mapping(self, node: MappingNode, loc: Loc, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, child in node.value:
            if _is_merge(key):
                self._merge(child, loc, depth, merged)
        for key, child in node.value:
            if _is_merge(key):
                continue
            if not isinstance(key, ScalarNode):
                hint = "put ${…} and {topic} in quotes inside { } and [ ]"
                raise _at(key, "a key is text, not a list or a mapping", hint, loc)
            name = str(_text(key))
            if name in own:
                message = f"the key {name!r} is here twice; the first is on line {first[name]}"
                twice = Finding((*loc, name), message, "remove or rename one of them", on_key=True)
                places = _position(key), _position(child)
                self._parsed.duplicates.append(
                    Duplicate(twice, *places, isinstance(child, ScalarNode))
                )
                continue
            first[name] = key.start_mark.line + 1
            self._parsed.keys[(*loc, name)] = _position(key)
            own[name] = self.value(child, (*loc, name), depth + 1)
        return {**merged, **own}

    def _merge(self, node: Node, loc: Loc, depth: int, into: dict[str, Any]) -> None:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                raise _at(source, "<< merges mappings only", "", loc)
            self._count += 1
            if depth > MAX_DEPTH or self._count > MAX_VALUES:
                raise _at(source, "the merge is too large (an alias in itself?)")
            into.update(self.mapping(source, loc, depth + 1))


def _is_merge(key: Node) -> bool:
    return isinstance(key, ScalarNode) and key.value == "<<" and key.style is None


def _position(node: Node) -> Position:
    start, end = node.start_mark, node.end_mark
    return Position(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _text(node: ScalarNode) -> str:
    text: str = node.value
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        return text
    try:
        # JSON writes characters beyond the basic plane as two escapes.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise _at(node, "this text has half of a surrogate pair", "write the character") from None


def _scalar(node: ScalarNode) -> Any:
    text = _text(node)
    if node.style is not None:
        return text
    if text in _NULLS:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and text[-1] != "." else text


def _explain(error: yaml.YAMLError, lines: list[str]) -> SyntaxProblem:
    problem = _explained(error, lines)
    problem.lines = lines
    return problem


def _explained(error: yaml.YAMLError, lines: list[str]) -> SyntaxProblem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    if "undefined alias" in what:
        # A password that begins with '*' looks like an alias: it must not be repeated.
        what = "an alias has no anchor; text that begins with '*' needs quotes"
    context = getattr(error, "context", None)
    if mark is None:
        return SyntaxProblem(f"this is not YAML: {what}", hint="is it a text file?")
    line, column = mark.line + 1, mark.column + 1
    shown = lines[mark.line] if mark.line < len(lines) else ""
    indent = shown[: len(shown) - len(shown.lstrip())]
    if "\t" in indent or shown[mark.column : mark.column + 1] == "\t":
        at = indent.find("\t") + 1 if "\t" in indent else column
        return SyntaxProblem("a tab stands where YAML wants spaces", line, at, "write spaces")
    if "single document" in str(context):
        return SyntaxProblem(
            "a second document begins here", line, column, "one file holds one pipeline"
        )
    hint = ""
    if "${" in shown or "${" in (lines[mark.line - 1] if mark.line else ""):
        hint = "put ${…} in quotes where { } or ': ' stand around or in it"
    elif "could not find expected ':'" in what:
        hint = "is a ':' missing, or a quote not closed?"
    return SyntaxProblem(f"this is not YAML: {what}", line, column, hint)
