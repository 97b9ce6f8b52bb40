"""Whatever happens to processes and reports, the metrics say what the ledger says (SPEC L 36)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from raylake.ingest.owner_state import OwnerState
from raylake.ingest.unit import Counts, PartitionState, SourcePartition, sum_counts
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.metrics import MemoryMetrics

TABLES = ("bronze.orders", "bronze.clicks")
OUTCOMES = {"row": "rows", "dead": "dead", "absent": "absent", "lost": "lost", "dropped": "dropped"}

counts = st.builds(
    Counts,
    rows=st.integers(0, 50),
    dead=st.integers(0, 5),
    absent=st.integers(0, 5),
    lost=st.integers(0, 2),
    dropped=st.integers(0, 2),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(TABLES), st.integers(0, 2), counts),
        st.tuples(st.just("replace"), st.sampled_from(TABLES)),
        st.tuples(st.just("report")),
        st.tuples(st.just("new supervisor")),
    ),
    max_size=40,
)


@dataclass
class Owner:
    pid: int
    state: OwnerState = field(default_factory=OwnerState)


@dataclass(frozen=True)
class Said:
    pid: int
    state: OwnerState
    ends: dict[SourcePartition, PartitionState]


class Lake:
    """The ledgers, their owners, and a supervisor that hears only some reports."""

    def __init__(self) -> None:
        self.ledgers: dict[str, dict[SourcePartition, PartitionState]] = {t: {} for t in TABLES}
        self.owners = {table: Owner(n) for n, table in enumerate(TABLES)}
        self.pids = len(TABLES)
        self.commits = dict.fromkeys(TABLES, 0)
        self.new_supervisor()

    def new_supervisor(self) -> None:
        self.metrics = MemoryMetrics()
        self.export = MetricsExport(self.metrics, "shop")

    def commit(self, table: str, partition: int, one: Counts) -> None:
        source = SourcePartition("t", "id", partition)
        before = self.ledgers[table].get(source, PartitionState(0, 0, Counts()))
        after = replace(before, next=before.next + one.total, totals=before.totals + one)
        self.ledgers[table][source] = after
        owner = self.owners[table]
        owner.state = replace(owner.state, commits=owner.state.commits + 1)
        self.commits[table] += 1

    def replace(self, table: str) -> None:
        self.pids += 1
        self.owners[table] = Owner(self.pids)

    def report(self) -> None:
        said = {
            table: Said(owner.pid, owner.state, dict(self.ledgers[table]))
            for table, owner in self.owners.items()
        }
        self.export.export(RunReports(owners=said), 0.0)

    def committed(self, table: str) -> dict[str, float]:
        labels = {"pipeline": "shop", "table": table, "stage": "committed"}
        return {
            outcome: self.metrics.value("raylake_records_total", outcome=outcome, **labels)
            for outcome in OUTCOMES
        }

    def ledger(self, table: str) -> dict[str, float]:
        totals = sum_counts(state.totals for state in self.ledgers[table].values())
        return {outcome: getattr(totals, name) for outcome, name in OUTCOMES.items()}


@given(steps)
def test_property_36_metrics_tracking_survives_lost_owners_and_reports(
    history: list[tuple[object, ...]],
) -> None:
    lake = Lake()
    for name, *arguments in history:
        step = {
            "commit": lake.commit,
            "replace": lake.replace,
            "report": lake.report,
            "new supervisor": lake.new_supervisor,
        }[str(name)]
        step(*arguments)
        if name == "report":
            for table in TABLES:
                assert lake.committed(table) == lake.ledger(table)
    lake.report()
    for table in TABLES:
        assert lake.committed(table) == lake.ledger(table)
        commits = lake.metrics.value("raylake_commits_total", pipeline="shop", table=table)
        # A killed owner's last commits may be told by the ledger alone.
        assert commits <= lake.commits[table]
