"""Values of tables as commands print them."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest

from raylake.cli.table_output import csv_value, json_value
from raylake.client.shown import cell, html_table


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("a=1", "a=1"),
        (-1, -1),
        (None, None),
        (b"=\xff", "'=\\xff"),
        (decimal.Decimal("-1.5"), "'-1.5"),
    ],
)
def test_what_a_spreadsheet_would_calculate_is_text(value: Any, printed: Any) -> None:
    assert csv_value(value) == printed


def test_values_that_json_lacks_are_text() -> None:
    value = {"f": float("inf"), "t": dt.time(1, 2), "m": [("k", b"x")], "n": None, "b": True}
    assert json_value(value) == {
        "f": "inf",
        "t": "01:02:00",
        "m": [["k", "eA=="]],
        "n": None,
        "b": True,
    }


def test_everything_in_a_page_is_escaped_and_bounded() -> None:
    page = html_table("<b>", ["<i>"], [["<script>"], ["x" * 10_000]], "<u>")
    assert not any(tag in page for tag in ("<b><", "<i>", "<script>", "<u>"))
    assert len(page) < 1000
    assert cell("a\x1b[31m\n") == "a\\x1b[31m\\n"
