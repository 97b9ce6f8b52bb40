"""Computes silver and gold anew from bronze's value bytes, and compares row by row.

Nothing of the product is asked: the bytes are parsed by DuckDB, and what becomes of them is said
here a second time, in SQL. Bronze itself is held against the producers' notes by
:mod:`.books`; which rows silver must turn away, against the same notes here.
"""

# ruff: noqa: S608 - every part of a query is written in this module, but for names of files

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from .files import Files
from .replay import AuditError, read_commits, replay
from .report import Compared, DerivedReport

SILVER = "silver.orders"
SPOILED = ("not_convertible", "breaks_rule")
"""The producers' names for rows that silver must turn away."""
_PROGRESS = "raylake/from/"
_EXAMPLES = 5
_FIELDS = {
    "order_id": "VARCHAR",
    "customer_id": "VARCHAR",
    "country": "VARCHAR",
    "segment": "VARCHAR",
    "quantity": "VARCHAR",
    "amount": "VARCHAR",
    "ordered_at": "VARCHAR",
    "updated_at": "VARCHAR",
    "channel": "VARCHAR",
}


@dataclass(frozen=True)
class Tables:
    """The folders of the tables.

    Attributes:
        bronze: With ``_value``.
        silver: One row an order.
        gold: One row a day and country.
        quarantine: What silver turned away; a folder that is not there counts as empty.
    """

    bronze: Path | str
    silver: Path | str
    gold: Path | str
    quarantine: Path | str


def audit_derived(
    tables: Tables, records: Sequence[Path | str], memory: str = "1GB"
) -> DerivedReport:
    """Compare silver, gold and quarantine with what bronze and the producers' notes say.

    Args:
        tables: Where they lie; nothing is changed.
        records: The producers' record files.
        memory: DuckDB's memory limit.

    Raises:
        AuditError: Something could not be read; nothing is proven then.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raylake-audit-") as spill:
        connection = duckdb.connect(config={"memory_limit": memory, "temp_directory": spill})
        try:
            connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
            return _audited(connection, tables, records, began)
        except duckdb.Error as error:
            raise AuditError(f"{tables.silver}: {error}") from error
        finally:
            connection.close()


def _audited(
    connection: duckdb.DuckDBPyConnection,
    tables: Tables,
    records: Sequence[Path | str],
    began: float,
) -> DerivedReport:
    _read_bronze(connection, tables.bronze)
    for name, query in _EXPECTED.items():
        # Constants of this module.
        connection.execute(f"CREATE TEMP TABLE wanted_{name} AS {query}")
    _read_silver(connection, tables.silver)
    _read_gold(connection, tables.gold)
    _read_quarantine(connection, tables.quarantine)
    _read_notes(connection, [str(one) for one in records])
    orders, revenue = _row(
        connection, "SELECT coalesce(sum(orders), 0), coalesce(sum(revenue), 0) FROM found_gold"
    )
    return DerivedReport(
        silver=_compared(connection, "silver"),
        gold=_compared(connection, "gold"),
        quarantine=_compared(connection, "quarantine"),
        unlike_notes=_unlike_notes(connection),
        by_rule=dict(connection.sql(_BY_RULE).fetchall()),
        orders=int(orders),
        revenue=str(revenue),
        digest=str(_row(connection, _DIGEST)[0]),
        engines={"silver": engines(tables.silver), "gold": engines(tables.gold)},
        seconds=round(time.monotonic() - began, 2),
    )


def engines(root: Path | str) -> dict[str, int]:
    """How many of a table's steps that wrote rows each engine committed, by its own name."""
    found: Counter[str] = Counter()
    for actions in read_commits(root):
        step = any(
            str(one["txn"]["appId"]).startswith(_PROGRESS) for one in actions if "txn" in one
        )
        infos = [one["commitInfo"] for one in actions if "commitInfo" in one]
        if step and any("add" in one or "remove" in one for one in actions):
            by_spark = any("Spark" in str(one.get("engineInfo")) for one in infos)
            found["spark" if by_spark else "delta-rs"] += 1
    return dict(found)


def _read_bronze(connection: duckdb.DuckDBPyConnection, root: Path | str) -> None:
    files = _files(connection, root)
    columns = {
        "topic": files.column("_topic"),
        "part": f"{files.column('_partition')}::BIGINT",
        "off": f"{files.column('_offset')}::BIGINT",
        "at_us": f"epoch_us({files.column('_timestamp')})",
        "key": f"decode({files.column('_key')})",
        "tombstone": files.column("_tombstone"),
        "v": f"json_transform(decode({files.column('_value')}), '{json.dumps(_FIELDS)}')",
    }
    _keep(files, "bronze", columns)


def _read_silver(connection: duckdb.DuckDBPyConnection, root: Path | str) -> None:
    files = _files(connection, root)
    columns = {
        "order_id": files.column("order_id"),
        "customer_id": files.column("customer_id"),
        "country": files.column("country"),
        "segment": files.column("segment"),
        "quantity": files.column("quantity"),
        "amount": files.column("amount"),
        "ordered_us": f"epoch_us({files.column('ordered_at')})",
        "updated_us": f"epoch_us({files.column('updated_at')})",
        # It appears in the middle of the stream; a short one ends before.
        "channel": files.column("channel") if files.has("channel") else "NULL::VARCHAR",
        "at_us": f"epoch_us({files.column('_timestamp')})",
        "topic": files.column("_topic"),
        "part": f"{files.column('_partition')}::BIGINT",
        "off": f"{files.column('_offset')}::BIGINT",
    }
    _keep(files, "found_silver", columns)


def _read_gold(connection: duckdb.DuckDBPyConnection, root: Path | str) -> None:
    files = _files(connection, root)
    columns = {
        "day": f"{files.column('day')}::DATE",
        "country": files.column("country"),
        "orders": f"{files.column('orders')}::BIGINT",
        "revenue": f"{files.column('revenue')}::DECIMAL(38, 2)",
        "largest": f"{files.column('largest')}::DECIMAL(18, 2)",
    }
    _keep(files, "found_gold", columns)


def _read_quarantine(connection: duckdb.DuckDBPyConnection, root: Path | str) -> None:
    if not Path(root).exists():
        connection.execute("CREATE TEMP TABLE found_quarantine AS FROM wanted_quarantine LIMIT 0")
        return
    files = _files(connection, root)
    columns = {
        "topic": files.column("_topic"),
        "part": f"{files.column('_partition')}::BIGINT",
        "off": f"{files.column('_offset')}::BIGINT",
        "rule": f"split_part({files.column('rule')}, '(', 1)",
        "failing": files.column("value"),
    }
    mine = f"{files.column('table')} = '{SILVER}'"
    _keep(files, "found_quarantine", columns, mine)


def _read_notes(connection: duckdb.DuckDBPyConnection, records: Sequence[str]) -> None:
    connection.execute(
        "CREATE TEMP TABLE noted AS SELECT topic::VARCHAR AS topic, partition::BIGINT AS part, "
        '"offset"::BIGINT AS off FROM read_parquet($files) '
        "WHERE kind::VARCHAR IN $kinds AND fate::VARCHAR = 'row'",
        {"files": records, "kinds": list(SPOILED)},
    )


def _files(connection: duckdb.DuckDBPyConnection, root: Path | str) -> Files:
    snapshot = replay(root)
    if not snapshot.files:
        raise AuditError(f"{root}: no row is in it")
    return Files(connection, snapshot)


def _keep(files: Files, name: str, columns: dict[str, str], where: str = "true") -> None:
    chosen = ", ".join(f"{text} AS {column}" for column, text in columns.items())
    files.rows.filter(where).project(chosen).create(name)


_JUDGED = """
SELECT *, CASE
    WHEN NOT regexp_full_match(v.amount, '-?(0|[1-9][0-9]*)([.][0-9]{1,2})?')
      THEN 'type_conversion'
    WHEN v.customer_id IS NULL THEN 'not_null'
    WHEN TRY_CAST(v.amount AS DECIMAL(18, 2)) NOT BETWEEN 0 AND 1000000 THEN 'range'
  END AS breaks
FROM bronze WHERE NOT tombstone
"""
# A quantity of 1.5 stays in bronze's _rescued_data; a cast would round it, and an amount of 1.999.
_EVENTS = f"""
SELECT false AS gone, v.order_id AS order_id, v.customer_id AS customer_id, v.country AS country,
  v.segment AS segment,
  CASE WHEN regexp_full_match(v.quantity, '-?[0-9]+') THEN TRY_CAST(v.quantity AS BIGINT) END
    AS quantity,
  TRY_CAST(v.amount AS DECIMAL(18, 2)) AS amount,
  epoch_us(v.ordered_at::TIMESTAMP) AS ordered_us, epoch_us(v.updated_at::TIMESTAMP) AS updated_us,
  v.channel AS channel, at_us, topic, part, off
FROM ({_JUDGED}) WHERE breaks IS NULL
UNION ALL BY NAME
SELECT true AS gone, key AS order_id, at_us AS updated_us, at_us, topic, part, off
FROM bronze WHERE tombstone
"""
_EXPECTED = {
    "silver": f"""
        SELECT * EXCLUDE (gone, nth) FROM (
          SELECT *, row_number() OVER (
            PARTITION BY order_id
            ORDER BY updated_us DESC, at_us DESC, topic DESC, part DESC, off DESC) AS nth
          FROM ({_EVENTS}))
        WHERE nth = 1 AND NOT gone""",
    "gold": """
        SELECT make_timestamp(ordered_us)::DATE AS day, country, count(*) AS orders,
          sum(amount)::DECIMAL(38, 2) AS revenue, max(amount) AS largest
        FROM wanted_silver GROUP BY ALL""",
    "quarantine": f"""
        SELECT topic, part, off, breaks AS rule,
          CASE WHEN breaks <> 'not_null' THEN v.amount END AS failing
        FROM ({_JUDGED}) WHERE breaks IS NOT NULL""",
}
_BY_RULE = "SELECT rule, count(*) FROM found_quarantine GROUP BY ALL ORDER BY ALL"
_DIGEST = """
SELECT printf('%016x', coalesce(bit_xor(md5_number_lower(concat_ws('|', order_id, customer_id,
  country, coalesce(segment, '-'), quantity, amount, coalesce(channel, '-')))), 0))
FROM found_silver
"""


def _compared(connection: duckdb.DuckDBPyConnection, name: str) -> Compared:
    wanted, found = f"FROM wanted_{name}", f"FROM found_{name}"
    missing, unexpected = f"{wanted} EXCEPT ALL {found}", f"{found} EXCEPT ALL {wanted}"
    counts = [_count(connection, query) for query in (wanted, found, missing, unexpected)]
    examples = []
    for what, query, count in zip(
        ("missing", "not expected"), (missing, unexpected), counts[2:], strict=True
    ):
        if count:
            some = connection.sql(f"FROM ({query}) ORDER BY ALL LIMIT {_EXAMPLES}")
            rows = [dict(zip(some.columns, row, strict=True)) for row in some.fetchall()]
            examples += [f"{what}: {row}" for row in rows]
    expected, rows_there, lost, more = counts
    return Compared(rows_there, expected, lost, more, examples)


def _unlike_notes(connection: duckdb.DuckDBPyConnection) -> int:
    found = "SELECT topic, part, off FROM found_quarantine"
    return _count(
        connection, f"({found} EXCEPT ALL FROM noted) UNION ALL (FROM noted EXCEPT ALL {found})"
    )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(_row(connection, f"SELECT count(*) FROM ({query})")[0])


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    (found,) = connection.sql(query).fetchall()
    return tuple(found)
