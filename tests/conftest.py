"""What all tests share: the broker fixture, the `spec` marker's check, Hypothesis, the workers."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.harness.spec_report import known_rows

pytest_plugins = [
    "tests.harness.broker",
    "tests.harness.cluster",
    "tests.harness.jobs_cluster",
    "tests.harness.chaos_report",
    "tests.harness.scope",
    "tests.harness.spark",
    "tests.harness.store",
    "tests.harness.disk",
    "tests.harness.typed",
]

# A slow machine is not a failing property; a failing example can be pasted back from the output.
hypothesis.settings.register_profile("raylake", deadline=None, print_blob=True)
hypothesis.settings.load_profile("raylake")

# Where it is switched off, each of the thousand processes that tests start would compile all that
# it imports: as much time as most of them take for the rest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Brokers and Spark of the tests live for seconds: the optimising compiler would take half of their
# processor time, and bring little.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

# The tests of such a file share a running pipeline, a built wheel or what was read once.
_WHOLE_FILES = ("tests/integration/", "tests/packaging/", "tests/unit/")
# A test with such a parameter, or in such a file, uses the one Spark session of the suite.
_SPARK_PARAMETER = re.compile(r"\[spark( and delta-rs)?\]")
_SPARK_FILES = (
    "tests/contract/test_mixed_engines.py",
    "tests/integration/erasure/test_after_spark.py",
    "tests/contract/test_readers_of_steps.py",
    "tests/integration/pipeline/test_readers.py",
    "tests/integration/spark/test_engine_",
    "tests/integration/spark/test_upkeep_tables.py",
)
# Such a file's tests use the one cluster with the Jobs API of their worker.
_JOBS_FILES = (
    "tests/integration/cli/test_submit.py",
    "tests/integration/submitting/test_bad_input.py",
    "tests/integration/submitting/test_derived_jobs.py",
    "tests/integration/submitting/test_one_pipeline.py",
    "tests/integration/submitting/test_upkeep_jobs.py",
)


class WholeFiles(LoadScopeScheduling):
    """With several workers, a file of these folders stays on one; other tests go where room is.

    All that use Spark stay on one worker, too, so that there is one session; so do those that use
    a cluster with the Jobs API.

    The groups of pytest-xdist 3.8 do nothing with pytest 9.2: a test's id cannot be set any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        if _SPARK_PARAMETER.search(nodeid) or nodeid.startswith(_SPARK_FILES):
            return "spark"
        if nodeid.startswith(_JOBS_FILES):
            return "jobs"
        return nodeid.split("::", 1)[0] if nodeid.startswith(_WHOLE_FILES) else nodeid

    def _reschedule(self, node: Any) -> None:
        # Of two workers that are replaced at once, one has collected before the other.
        if node in self.registered_collections:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeFiles:
    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rows = known_rows()
    for item in items:
        for marker in item.iter_markers("spec"):
            if unknown := sorted(set(marker.args) - rows.keys()):
                raise pytest.UsageError(
                    f"{item.nodeid}: no such rows of the specification: {unknown}"
                )
            if not marker.args:
                raise pytest.UsageError(f"{item.nodeid}: the spec marker names no row")
