"""Values for people: in a terminal by rich, in a notebook as HTML. What tables hold is escaped."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, overload

from rich.table import Table as RichTable
from rich.text import Text

CELL_CHARACTERS: Final = 120
SHOWN_LINES: Final = 50

T = TypeVar("T")


def printable(text: str, limit: int = CELL_CHARACTERS) -> str:
    """Text that came from outside, bounded and with its control characters escaped.

    Args:
        text: The text.
        limit: Greatest number of characters shown.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


def cell(value: Any) -> str:
    """A value as one bounded line."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return printable(value[: 4 * CELL_CHARACTERS].decode("utf-8", "backslashreplace"))
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping) and value:
        return printable(", ".join(f"{key}={cell(inner)}" for key, inner in value.items()))
    return printable(str(value) if not isinstance(value, Mapping) else "")


def rich_table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> RichTable:
    """A table for the terminal."""
    made = RichTable(title=printable(title) or None, title_justify="left", box=None, pad_edge=False)
    for name in names:
        made.add_column(printable(name), overflow="fold")
    for row in rows:
        # Plain text: square brackets in a value are no markup.
        made.add_row(*(Text(cell(value)) for value in row))
    return made


def html_table(
    title: str, names: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
) -> str:
    """A table for a notebook; everything in it is escaped."""
    head = "".join(f"<th>{html.escape(printable(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    caption = f"<div><b>{html.escape(printable(title))}</b></div>" if title else ""
    below = f"<div>{html.escape(printable(note, 1000))}</div>" if note else ""
    return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


class Listing(Sequence[T], Generic[T]):
    """Some values of one dataclass, which notebooks and terminals show as a table.

    Args:
        title: What they are.
        values: The values.
        names: The attributes that are shown.
    """

    def __init__(self, title: str, values: Iterable[T], names: Sequence[str]) -> None:
        self._title = title
        self._values = tuple(values)
        self._names = tuple(names)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        """One of them, or several."""
        return self._values[at]

    def __len__(self) -> int:
        """How many."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Whether they are the same values."""
        if isinstance(other, Listing):
            return bool(self._values == other._values)
        return isinstance(other, Sequence) and self._values == tuple(other)

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        return f"<{self._title}: {len(self)}>"

    def __rich__(self) -> RichTable:
        """The table for a terminal."""
        return rich_table(self._title, self._names, self._rows())

    def _repr_html_(self) -> str:
        more = len(self) - SHOWN_LINES
        note = f"{more} more" if more > 0 else ""
        return html_table(self._title, self._names, self._rows(), note)

    def _rows(self) -> list[list[Any]]:
        return [[getattr(v, name) for name in self._names] for v in self._values[:SHOWN_LINES]]
