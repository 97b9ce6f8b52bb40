"""Silver, gold, quality and maintenance: parsed and validated; nothing runs in this version."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, Tag

from raylake.config.base import Address, Column, Model, choose
from raylake.config.bronze import ColumnType
from raylake.config.findings import Invalid
from raylake.config.quality import Rule
from raylake.config.references import TableRef
from raylake.config.units import DurationOrZeroS, DurationS, Ratio, SizeBytes, Truth

Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
_CRON_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS: Final = ("jan feb mar apr may jun", "jul aug sep oct nov dec")
_DAYS: Final = "sun mon tue wed thu fri sat"
_CRON_NAMES: Final = {
    **{name: str(i + 1) for i, name in enumerate(" ".join(_MONTHS).split())},
    **{name: str(i) for i, name in enumerate(_DAYS.split())},
}


def check_cron(text: str) -> str:
    """Five fields: minute, hour, day, month, weekday.

    Raises:
        Invalid: It is not a schedule.
    """
    fields = text.lower().split()
    hint = 'five fields, for example "0 3 * * *": every day at three'
    if len(fields) != 5:
        raise Invalid(f"{text!r} is not a schedule", hint)
    for field, (low, high) in zip(fields, _CRON_RANGES, strict=True):
        for item in field.split(","):
            span, _, step = item.partition("/")
            ends = ["0"] if span == "*" else [_CRON_NAMES.get(e, e) for e in span.split("-")]
            numbers = [int(e) if re.fullmatch(r"[0-9]{1,2}", e) else -1 for e in ends]
            good = len(ends) <= 2 and (span == "*" or all(low <= n <= high for n in numbers))
            if not good or numbers != sorted(numbers) or ("/" in item and not _step(step)):
                raise Invalid(f"{item!r} does not fit in the schedule {text!r}", hint)
    return text


def _step(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]?", text) is not None


Schedule = Annotated[str, AfterValidator(check_cron)]


def _check_trigger(text: str) -> str:
    if text not in ("watermark", "source_changed"):
        if not re.search(r"\s", text):
            raise Invalid(f"{text!r} is not a trigger", 'watermark, source_changed or "0 2 * * *"')
        check_cron(text)
    return text


Trigger = Annotated[str, AfterValidator(_check_trigger)]


class _Table(Model):
    path: Address | None = None
    partition_by: tuple[Column, ...] = ()
    trigger: Trigger = "source_changed"
    types: dict[Column, ColumnType] = Field(default_factory=dict)
    quality: tuple[Rule, ...] = ()
    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")


class AppendTable(_Table):
    """Each row of the source becomes a row."""

    mode: Literal["append"]
    from_: TableRef = Field(alias="from")


class UpsertTable(_Table):
    """One row a key: the one with the greatest ``sequence_by``."""

    mode: Literal["upsert"]
    from_: TableRef = Field(alias="from")
    keys: Columns
    sequence_by: Column | None = None


class Scd1Table(_Table):
    """A dimension without history: one row a key, changed in place."""

    mode: Literal["scd1"]
    from_: TableRef = Field(alias="from")
    keys: Columns
    sequence_by: Column | None = None


class Scd2Table(_Table):
    """A dimension with history: a new row when a tracked column changes."""

    mode: Literal["scd2"]
    from_: TableRef = Field(alias="from")
    keys: Columns
    track: Columns
    sequence_by: Column


class AggregateTable(_Table):
    """The result of a query; the text is not looked into yet."""

    mode: Literal["aggregate"]
    sql: str = Field(min_length=1)


SilverTable = Annotated[
    Annotated[AppendTable, Tag("<append>")] | Annotated[UpsertTable, Tag("<upsert>")],
    choose("mode"),
]
GoldTable = Annotated[
    Annotated[AppendTable, Tag("<append>")]
    | Annotated[UpsertTable, Tag("<upsert>")]
    | Annotated[Scd1Table, Tag("<scd1>")]
    | Annotated[Scd2Table, Tag("<scd2>")]
    | Annotated[AggregateTable, Tag("<aggregate>")],
    choose("mode"),
]


class Compact(Model):
    """Small files become larger ones."""

    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")


class Vacuum(Model):
    """Files that no readable version needs are removed."""

    keep_s: DurationS = Field(default=7 * 86_400.0, alias="keep")
    schedule: Schedule = "0 3 * * *"


class Budget(Model):
    """What upkeep may take.

    Attributes:
        cpu: Part of the cluster's CPUs, 0 to 1.
        yield_above_lag_s: Upkeep waits while ingestion is further behind than this.
    """

    cpu: Ratio = 0.25
    yield_above_lag_s: DurationOrZeroS = Field(default=60.0, alias="yield_above_lag")


class Maintenance(Model):
    """Upkeep of the tables."""

    enabled: Truth = True
    compact: Compact = Compact()
    zorder: dict[TableRef, Columns] = Field(default_factory=dict)
    vacuum: Vacuum = Vacuum()
    budget: Budget = Budget()
