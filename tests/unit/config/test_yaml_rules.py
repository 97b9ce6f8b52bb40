"""What the parser makes of YAML and JSON, and what it refuses."""

from __future__ import annotations

import pytest

from raylake.config.positions import MAX_BYTES, MAX_VALUES, Position, SyntaxProblem, parse


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("NO", "NO"),
        ("y", "y"),
        ("'true'", "true"),
        ("12", 12),
        ("-3", -3),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1'", "1"),
        ("9" * 39, int("9" * 39)),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars(written: str, value: object) -> None:
    got = parse(f"a: {written}\n".encode()).data["a"]
    assert got == value
    assert type(got) is type(value)


def test_keys_are_always_text() -> None:
    assert parse(b"NO: 1\n0: 2\ntrue: 3\nnull: 4\n").data == {
        "NO": 1,
        "0": 2,
        "true": 3,
        "null": 4,
    }


def test_every_value_has_its_place() -> None:
    parsed = parse("a:\n  - x\n  - {b: 'é', c: [1, 22]}\n".encode())
    assert parsed.values[("a", 0)] == Position(2, 5, 2, 6)
    assert parsed.values[("a", 1, "b")] == Position(3, 9, 3, 12)
    assert parsed.keys[("a", 1, "c")] == Position(3, 14, 3, 15)
    assert parsed.values[("a", 1, "c", 1)] == Position(3, 21, 3, 23)


@pytest.mark.parametrize(
    ("raw", "message", "line", "column"),
    [
        (b"", "empty", 0, 0),
        (b"\n# only a comment\n", "empty", 0, 0),
        (b"---\n", "empty", 0, 0),
        (b"~\n", "empty", 0, 0),
        (b"a: 1\n---\nb: 2\n", "second document", 2, 1),
        (b"- a\n", "not a mapping", 1, 1),
        (b"just text\n", "not a mapping", 1, 1),
        (b"a:\n\tb: 1\n", "tab", 2, 1),
        (b"a: 1\t# comment\n", "tab", 1, 5),
        (b"a:\t1\n", "tab", 1, 3),
        (b"a: 1\nb: x\xffy\n", "0xff is not UTF-8", 2, 5),
        ("a: é".encode("latin-1"), "0xe9 is not UTF-8", 1, 4),
        ("a: 1".encode("utf-16"), "UTF-16", 0, 0),
        (b"PAR1\0\0\0", "binary", 0, 0),
        (b"a: \x01\n", "not YAML", 0, 0),
        (b"a: [1, 2\n", "not YAML", 2, 1),
        (b"a: !!python/object/apply:os.system [x]\n", "tags are not allowed", 1, 4),
        (b"a: !!str 1\n", "tags are not allowed", 1, 4),
        (b"a: *nothing\n", "no anchor", 1, 4),
        (b"a: &x [*x]\n", "nested", 1, 4),
        (b"? [a, b]\n: 1\n", "a key is text", 1, 3),
        (b'a: "\\uD800"\n', "surrogate", 1, 4),
        (b"[" * 5000, "nested", 1, 41),
        (b"a: " + b"{b: " * 60, "nested", 1, 157),
        (b"<<: 1\n", "mappings only", 1, 5),
        (b"a" * (MAX_BYTES + 1), "larger", 0, 0),
        (b'"\\UFFFFFFFF": 1', "not YAML", 0, 0),
    ],
)
def test_refused(raw: bytes, message: str, line: int, column: int) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse(raw)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("raw", "data", "first", "key"),
    [
        (b"a: 1\nb:\n  c: 1\n  c: 2\n", {"a": 1, "b": {"c": 1}}, 3, Position(4, 3, 4, 4)),
        (b"{'a': 1, \"a\": {b: 2}}", {"a": 1}, 1, Position(1, 10, 1, 13)),
    ],
)
def test_of_a_key_that_is_there_twice_the_first_value_is_kept(
    raw: bytes, data: dict[str, object], first: int, key: Position
) -> None:
    parsed = parse(raw)
    assert parsed.data == data
    (found,) = parsed.duplicates
    assert f"is here twice; the first is on line {first}" in found.finding.message
    assert found.key == key


def test_anchors_and_merges_work() -> None:
    parsed = parse(b"base: &b {x: 1, y: 2}\nt: {<<: *b, y: 3}\nu: *b\n")
    assert parsed.data["t"] == {"x": 1, "y": 3}
    assert parsed.data["u"] == {"x": 1, "y": 2}


def test_the_first_of_several_merged_mappings_wins() -> None:
    text = b"a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n"
    assert parse(text).data["c"] == {"x": 1, "y": 2}


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    with pytest.raises(SyntaxProblem, match=str(MAX_VALUES)):
        parse("\n".join(lines).encode())


def test_a_merge_cannot_blow_up() -> None:
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, 20):
        lines.append(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}")
    with pytest.raises(SyntaxProblem, match=r"too large|more than"):
        parse("\n".join(lines).encode())


def test_json_is_read_by_the_same_path() -> None:
    raw = b'{\n\t"a":\t[1, true, null, "\\ud83d\\ude00\\/"],\n\t"NO": 1e3\n}'
    parsed = parse(raw, json=True)
    assert parsed.data == {"a": [1, True, None, "\U0001f600/"], "NO": 1000.0}
    assert parsed.values[("a", 1)] == Position(2, 11, 2, 15)


def test_a_byte_order_mark_does_not_shift_columns() -> None:
    parsed = parse(b"\xef\xbb\xbfa: 1\n")
    assert parsed.data == {"a": 1}
    assert parsed.keys[("a",)].column == 1


def test_windows_line_ends() -> None:
    parsed = parse(b"a: 1\r\nb: [x]\r\n")
    assert parsed.data == {"a": 1, "b": ["x"]}
    assert parsed.values[("b", 0)] == Position(2, 5, 2, 6)


def test_a_tab_inside_quotes_and_sql_is_text() -> None:
    assert parse(b"a: 'x\ty'\nsql: |\n  SELECT\t1\n").data == {"a": "x\ty", "sql": "SELECT\t1\n"}


def test_a_variable_in_flow_style_gets_the_right_hint() -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse(b"kafka: {bootstrap: ${KAFKA}}\n")
    assert "quotes" in caught.value.hint
