"""The queries that bring an aggregate table up to date, written from a plan's syntax trees."""
# ruff: noqa: S608 - every part is written from a checked tree, or is a name of ours

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from raylake.config.columns import PartitionField
from raylake.layers.aggregate_plan import Grouped, Key, Plan, transformed
from raylake.layers.aggregate_states import State
from raylake.layers.query import DIALECT, GROUP, OWN, Query

SOURCE: Final = f"{OWN}source"
CAME: Final = f"{OWN}came"
LEFT: Final = f"{OWN}left"
AFFECTED: Final = f"{OWN}affected"
KEPT: Final = f"{OWN}kept"
CHANGE: Final = f"{OWN}change"
STATE: Final = f"{OWN}state"
STALE: Final = f"{OWN}stale"
_HAS_COME: Final = f"{OWN}has_come"
_GONE: Final = f"{OWN}gone_"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a grouped table beside the query's.

    Attributes:
        partition_by: Partition columns; derived ones are columns of their own.
        kept: Whether states are columns of it.
    """

    partition_by: tuple[PartitionField, ...]
    kept: bool

    def states(self, grouped: Grouped) -> tuple[State, ...]:
        """The states that are columns of the table."""
        return grouped.states if self.kept else ()


@dataclass(frozen=True, slots=True)
class Texts:
    """The queries of a grouped table, written once.

    Attributes:
        anew: All of its rows, from the source.
        again: Rows of some groups, from the source.
        groups: The groups that rows came to or left; where states are kept, with what changed.
        moved: Rows from kept states and what changed; empty where none are kept.
    """

    anew: str
    again: str
    groups: str
    moved: str

    @classmethod
    def of(cls, grouped: Grouped, layout: Layout, *, unknown_is_stale: bool) -> Texts:
        """Those of a query; see :func:`moved` for ``unknown_is_stale``."""
        return cls(
            anew=computed(grouped, layout, affected=False),
            again=computed(grouped, layout, affected=True),
            groups=changed(grouped) if layout.kept else groups(grouped),
            moved=moved(grouped, layout, unknown_is_stale=unknown_is_stale) if layout.kept else "",
        )


def computed(grouped: Grouped, layout: Layout, *, affected: bool) -> str:
    """Rows of the table, computed from rows of the source.

    Args:
        grouped: The query.
        layout: The table's columns.
        affected: Only of the groups in :data:`AFFECTED`.
    """
    match = " AND ".join(
        f"({_sql(key.tree)}) IS NOT DISTINCT FROM {AFFECTED}.{_name(key.name)}"
        for key in grouped.keys
    )
    semi = f" SEMI JOIN {AFFECTED} ON {match}" if affected and match else ""
    columns = [f"{_sql(key.tree)} AS {_name(key.name)}" for key in grouped.keys]
    columns += [f"{_sql(state.over())} AS {_name(state.name)}" for state in grouped.states]
    inner = f"SELECT {', '.join(columns)} FROM {_chosen(SOURCE, grouped)}{semi}{_grouping(grouped)}"
    having = "" if grouped.having is None else f" WHERE {_sql(grouped.having)}"
    return f"{_finished(grouped, layout)} FROM ({inner}) AS {STATE}{having}"


def expressions(trees: Sequence[exp.Expr]) -> str:
    """Expressions over rows of the source."""
    named = (f"{_sql(one)} AS c{at}" for at, one in enumerate(trees))
    return f"SELECT {', '.join(named)} FROM {SOURCE}"


def groups(grouped: Grouped) -> str:
    """The keys of groups that rows of :data:`CAME` and :data:`LEFT` are of, and their texts."""
    keys = [f"{_sql(key.tree)} AS {_name(key.name)}" for key in grouped.keys]
    # A group without a key is there whatever comes.
    columns = ", ".join([*keys, "0 AS raylake_one"])
    found = " UNION ".join(
        f"SELECT {columns} FROM {_chosen(side, grouped)}" for side in (CAME, LEFT)
    )
    return f"SELECT *, {_text(grouped.keys)} AS {GROUP} FROM ({found}) AS {STATE}"


def changed(grouped: Grouped) -> str:
    """What rows of :data:`CAME` and :data:`LEFT` change in the states of their groups."""
    columns = [f"{_sql(key.tree)} AS {_name(key.name)}" for key in grouped.keys]
    columns += [one for state in grouped.states for one in _by_sign(state)]
    sides = " UNION ALL ".join(
        f"SELECT *, {flag} AS {_HAS_COME} FROM {_chosen(side, grouped)}"
        for side, flag in ((CAME, "TRUE"), (LEFT, "FALSE"))
    )
    # Without a key there is a group even where nothing changed.
    some = "" if grouped.keys else " HAVING count(*) > 0"
    change = f"SELECT {', '.join(columns)} FROM ({sides}) AS {SOURCE}{_grouping(grouped)}{some}"
    return f"SELECT *, {_text(grouped.keys)} AS {GROUP} FROM ({change}) AS {STATE}"


def moved(grouped: Grouped, layout: Layout, *, unknown_is_stale: bool) -> str:
    """Rows of the table from :data:`KEPT` states and :data:`CHANGE`; with their keys.

    A row has :data:`STALE`: whether its group must be computed from the source.

    Args:
        grouped: The query.
        layout: The table's columns.
        unknown_is_stale: A group that the table lacks may have rows in the source.
    """
    merged = [f"d.{_name(key.name)}" for key in grouped.keys]
    merged += [f"{_merged(state)} AS {_name(state.name)}" for state in grouped.states]
    merged += [f"d.{_gone(state)}" for state in grouped.states if state.kind in ("min", "max")]
    merged.append(f"k.{GROUP} IS NULL AS {OWN}unknown")
    joined = (
        f"SELECT {', '.join(merged)} FROM {CHANGE} AS d LEFT JOIN {KEPT} AS k "
        f"ON d.{GROUP} = k.{GROUP}"
    )
    stale = " OR ".join(_stale(grouped.states, unknown_is_stale=unknown_is_stale))
    keys = "".join(f", {_name(key.name)}" for key in grouped.keys)
    return f"{_finished(grouped, layout)}, ({stale}) AS {STALE}{keys} FROM ({joined}) AS {STATE}"


def whole(query: Query, plan: Plan, partition_by: Sequence[PartitionField]) -> str:
    """Rows of a table that is not computed by groups; of ``partitions``, those in AFFECTED."""
    tree = query.tree.copy()
    for table in list(tree.find_all(exp.Table)):
        name = ".".join(part.name for part in table.parts)
        if table.db:
            alias = table.alias or table.name
            put = exp.to_table(given_name(query, name))
            put.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
            for join in table.args.get("joins") or []:
                put.append("joins", join)
            table.replace(put)
    if plan.partitions:
        tree = tree.where(_affected(query, plan), dialect=DIALECT)
    derived = _derived(partition_by)
    return f"SELECT *{derived} FROM ({tree.sql(DIALECT, comments=False)}) AS {STATE}"


def partitions(plan: Plan) -> str:
    """The partitions that rows of :data:`CAME` and :data:`LEFT` are of."""
    columns = ", ".join(f"{_sql(key.tree)} AS {_name(key.name)}" for key in plan.partitions)
    return " UNION ".join(f"SELECT {columns} FROM {side}" for side in (CAME, LEFT))


def reads_once(query: Query) -> bool:
    """Whether each table is surely read no more than once."""
    named = [one for one in query.tree.find_all(exp.Table) if one.db]
    return len(named) == len(query.tables) and query.tree.find(exp.CTE) is None


def given_name(query: Query, table: str) -> str:
    """What a table of the lake is called in :func:`whole`."""
    at = query.tables.index(table)
    return SOURCE if at == 0 else f"{OWN}other{at}"


def _affected(query: Query, plan: Plan) -> exp.Expr:
    begin = query.tree.args["from_"].this
    side = begin.alias or begin.name
    conditions = []
    for key in plan.partitions:
        tree = key.tree.copy()
        for column in list(tree.find_all(exp.Column)):
            column.set("table", exp.to_identifier(side, quoted=True))
        mine = exp.column(key.name, table=AFFECTED)
        conditions.append(exp.NullSafeEQ(this=exp.Paren(this=tree), expression=mine))
    found = exp.select("1").from_(AFFECTED).where(*conditions)
    return exp.Exists(this=found)


def _chosen(side: str, grouped: Grouped) -> str:
    if grouped.where is None:
        return side
    return f"(SELECT * FROM {side} WHERE {_sql(grouped.where)}) AS {side}"


def _grouping(grouped: Grouped) -> str:
    places = ", ".join(str(at + 1) for at in range(len(grouped.keys)))
    return f" GROUP BY {places}" if places else ""


def _finished(grouped: Grouped, layout: Layout) -> str:
    columns = [f"{_sql(tree)} AS {_name(name)}" for name, tree in grouped.outputs]
    states = [_name(state.name) for state in layout.states(grouped)]
    inner = ", ".join([*columns, f"{_text(grouped.keys)} AS {GROUP}", *states])
    derived = _derived(layout.partition_by, dict(grouped.outputs))
    return f"SELECT {inner}{derived}"


def _derived(
    partition_by: Sequence[PartitionField], outputs: dict[str, exp.Expr] | None = None
) -> str:
    found = []
    for one in partition_by:
        if one.transform != "column":
            tree = exp.column(one.column, quoted=True) if outputs is None else outputs[one.column]
            found.append(f", {_sql(transformed(tree, one))} AS {_name(one.name)}")
    return "".join(found)


def _text(keys: Sequence[Key]) -> str:
    """A group's keys as a JSON array of texts: never null, and another one for other keys."""
    texts = ", ".join(f"CAST({_name(key.name)} AS VARCHAR)" for key in keys)
    return f"CAST(json_array({texts}) AS VARCHAR)" if texts else "'[]'"


def _by_sign(state: State) -> list[str]:
    name = _name(state.name)
    if state.kind in ("min", "max"):
        came = exp.column(_HAS_COME, quoted=True)
        brought, took = (_sql(state.over(one)) for one in (came, exp.Not(this=came.copy())))
        return [f"{brought} AS {name}", f"{took} AS {_gone(state)}"]
    return [f"{_sql(state.signed(_HAS_COME))} AS {name}"]


def _merged(state: State) -> str:
    kept, change = (f"{side}.{_name(state.name)}" for side in ("k", "d"))
    if state.kind in ("min", "max"):
        pick = "least" if state.kind == "min" else "greatest"
        return f"coalesce({pick}({kept}, {change}), {kept}, {change})"
    kind = "BIGINT" if state.cast is None else _sql(state.cast)
    return f"CAST(coalesce({kept}, 0) + {change} AS {kind})"


def _stale(states: Sequence[State], *, unknown_is_stale: bool) -> list[str]:
    found = [f"{OWN}unknown"] if unknown_is_stale else []
    for state in states:
        name = _name(state.name)
        if state.kind == "count":
            found.append(f"{name} < 0")
        elif state.kind in ("min", "max"):
            beyond = ">" if state.kind == "min" else "<"
            gone = _gone(state)
            found.append(f"({gone} IS NOT NULL AND NOT coalesce({gone} {beyond} {name}, FALSE))")
    return found


def _gone(state: State) -> str:
    return _name(f"{_GONE}{state.name}")


def _sql(tree: exp.Expr) -> str:
    return str(tree.sql(DIALECT, comments=False))


def _name(name: str) -> str:
    return str(exp.to_identifier(name, quoted=True).sql(DIALECT))
