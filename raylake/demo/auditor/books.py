"""Compares what a table and its dead letters hold with what the producers wrote down."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from .files import Files
from .replay import AuditError, Snapshot, replay
from .report import DAMAGES, AuditReport

_EXAMPLES = 5


@dataclass(frozen=True)
class Scope:
    """Which part of the tables is audited.

    Attributes:
        dead_letters_of: Only dead letters whose column ``table`` is this; None for all.
        coordinates_only: Accept a table without ``_value``: then alterations go unseen.
        memory: DuckDB's memory limit; it spills to a temporary folder beyond.
    """

    dead_letters_of: str | None = None
    coordinates_only: bool = False
    memory: str = "1GB"


def audit(
    table: Path | str,
    dead_letters: Path | str | None,
    records: Sequence[Path | str],
    scope: Scope | None = None,
) -> AuditReport:
    """Compare a bronze table and its dead letters with what producers wrote down.

    Nothing is changed. One snapshot of each table is read.

    Args:
        table: The bronze table's folder (``keep_value: true``).
        dead_letters: The dead-letter table's folder; None, or a folder that is not there, for none.
        records: The producers' record files.
        scope: What to leave out.

    Raises:
        AuditError: Something could not be read; nothing is proven then.
    """
    began, scope = time.monotonic(), scope or Scope()
    bronze = replay(table)
    dead = replay(dead_letters) if dead_letters and Path(dead_letters).exists() else None
    with tempfile.TemporaryDirectory(prefix="raylake-audit-") as spill:
        settings = {"memory_limit": scope.memory, "temp_directory": spill}
        connection = duckdb.connect(config=settings)
        try:
            connection.execute("SET enable_progress_bar = false")
            compared = _load(connection, bronze, dead, [str(r) for r in records], scope)
            figures = _figures(connection)
            examples = _examples(connection)
        except duckdb.Error as error:
            raise AuditError(f"{bronze.root}: {error}") from error
        finally:
            connection.close()
    return AuditReport(
        **figures,
        values_compared=compared,
        table_version=bronze.version,
        table_files=len(bronze.files),
        examples=examples,
        seconds=round(time.monotonic() - began, 2),
    )


def _load(
    connection: duckdb.DuckDBPyConnection,
    bronze: Snapshot,
    dead: Snapshot | None,
    records: Sequence[str],
    scope: Scope,
) -> bool:
    """Make the temporary tables ``produced``, ``seen``, ``markers`` and ``verdicts``."""
    if not records:
        raise AuditError("no record file of a producer was given")
    missing = [path for path in records if not Path(path).is_file()]
    if missing:
        raise AuditError(f"{missing[0]}: no such record file (is the producer done?)")
    connection.execute(
        "CREATE TEMP TABLE produced AS SELECT topic::VARCHAR AS topic, partition::BIGINT AS part,"
        ' "offset"::BIGINT AS off, md5, kind::VARCHAR AS kind, fate::VARCHAR AS fate'
        " FROM read_parquet($files)",
        {"files": list(records)},
    )
    _expect_sound_record(connection)
    connection.execute(
        "CREATE TEMP TABLE seen (topic VARCHAR, part BIGINT, off BIGINT, md5 BLOB, valued BOOLEAN,"
        " tombstone BOOLEAN, place VARCHAR)"
    )
    connection.execute("CREATE TEMP TABLE markers (topic VARCHAR)")
    compared = _load_rows(connection, bronze, scope)
    if dead is not None:
        _load_dead_letters(connection, dead, scope)
    connection.execute(_VERDICTS)
    return compared


def _expect_sound_record(connection: duckdb.DuckDBPyConnection) -> None:
    strange = connection.execute(
        "SELECT fate FROM produced WHERE fate NOT IN ('row', 'dead', 'either', 'aborted')"
    ).fetchone()
    if strange:
        raise AuditError(f"the producer's record has a fate {strange[0]!r}")
    twice = connection.execute(
        "SELECT topic, part, off FROM produced GROUP BY ALL HAVING count(*) > 1"
    ).fetchone()
    if twice:
        raise AuditError(
            f"the producer's record names {twice[0]}[{twice[1]}]@{twice[2]} twice: it is wrong"
        )


def _load_rows(connection: duckdb.DuckDBPyConnection, bronze: Snapshot, scope: Scope) -> bool:
    """Fill ``seen`` from the table; returns whether it holds value bytes."""
    if not bronze.files:
        return True
    files = Files(connection, bronze)
    compared = files.has("_value")
    if not compared and not scope.coordinates_only:
        raise AuditError(
            f"{bronze.root}: no column _value; set keep_value: true, or accept a weaker audit"
            " with --coordinates-only"
        )
    columns = [files.column(name) for name in ("_topic", "_partition", "_offset")]
    columns.append(f"unhex(md5({files.column('_value')}))" if compared else "NULL::BLOB")
    columns.append("true" if compared else "false")
    columns.append(files.column("_tombstone"))
    files.rows.project(", ".join([*columns, "'row'"])).insert_into("seen")
    return compared


def _load_dead_letters(connection: duckdb.DuckDBPyConnection, dead: Snapshot, scope: Scope) -> None:
    """Fill ``seen`` and ``markers`` from the dead-letter table."""
    if not dead.files:
        return
    files = Files(connection, dead)
    letters = files.rows
    if scope.dead_letters_of is not None:
        wanted = duckdb.ConstantExpression(scope.dead_letters_of)
        letters = letters.filter(duckdb.SQLExpression(files.column("table")) == wanted)
    stage = files.column("stage")
    letters.filter(f"{stage} = 'lost'").project(files.column("topic")).insert_into("markers")
    columns = [files.column(name) for name in ("topic", "partition", "offset")]
    columns += [f"unhex(md5({files.column('value')}))", "true", "false", "'dead'"]
    # What a replay has made a row of is told by its letter, and is in the table alone.
    letters.filter(f"{stage} NOT IN ('lost', 'replayed')").project(", ".join(columns)).insert_into(
        "seen"
    )


_VERDICTS = """
CREATE TEMP TABLE verdicts AS
WITH coordinates AS (
  SELECT topic, part, off, count(*) AS copies, count(*) FILTER (place = 'row') AS in_table,
         bool_or(tombstone) AS any_tombstone, bool_and(tombstone) AS all_tombstone,
         bool_or(valued AND md5 IS NULL) AS any_null, bool_or(md5 IS NOT NULL) AS any_value,
         min(md5) AS least, max(md5) AS greatest
  FROM seen GROUP BY topic, part, off
)
SELECT topic, part, off, p.kind, p.fate, coalesce(c.copies, 0) AS copies,
  p.fate IS NOT NULL AND p.fate <> 'aborted' AND c.copies IS NULL AS lost,
  coalesce(c.copies, 0) > 1 AS duplicated,
  p.fate IS NULL AS phantom,
  c.copies IS NOT NULL AND p.fate IS NOT NULL AND (
    coalesce(p.md5 <> least OR p.md5 <> greatest, false)
    OR (p.md5 IS NULL AND (any_value OR (in_table > 0 AND NOT all_tombstone)))
    OR (p.md5 IS NOT NULL AND (any_null OR any_tombstone))
  ) AS altered,
  p.fate = 'aborted' AND c.copies IS NOT NULL AS aborted_visible,
  c.copies = 1 AND ((p.fate = 'row' AND in_table = 0) OR (p.fate = 'dead' AND in_table = 1))
    AS misplaced
FROM produced p FULL JOIN coordinates c USING (topic, part, off)
"""


def _figures(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    verdicts = connection.table("verdicts")
    seen, produced = connection.table("seen"), connection.table("produced")
    counted = {
        "produced": produced,
        "aborted": produced.filter("fate = 'aborted'"),
        "rows": seen.filter("place = 'row'"),
        "dead_letters": seen.filter("place = 'dead'"),
        "tombstones": seen.filter("tombstone"),
        "loss_markers": connection.table("markers"),
        **{damage: verdicts.filter(damage) for damage in DAMAGES},
    }
    return {name: int(rows.count("*").fetchall()[0][0]) for name, rows in counted.items()}


def _examples(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    examples = {}
    for damage in DAMAGES:
        found = connection.table("verdicts").filter(damage).order("topic, part, off")
        columns = "topic, part, off, coalesce(kind, 'not produced'), copies"
        places = found.limit(_EXAMPLES).project(columns).fetchall()
        if places:
            examples[damage] = [f"{t}[{p}]@{o}: {kind}, seen {n}×" for t, p, o, kind, n in places]
    return examples
