"""A process of a run imports what it needs: each takes CPU time in every run."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

def none_of(*names):
    assert not [name for name in names if name in sys.modules], (names, "imported for nothing")

import actors.table_owner
none_of("pandas", "sqlglot", "duckdb", "kafka", "numba", "raylake.codecs.columnar")
import raylake.cli.run
none_of("raylake.codecs.columnar", "kafka", "sqlglot", "duckdb")
import jobs.ingest
none_of("pandas", "sqlglot", "duckdb")
import actors.dead_letter_queue, actors.partition_consumer, actors.supervisor
none_of("pandas", "sqlglot", "duckdb", "numba")
"""


def test_the_processes_of_a_run_import_what_they_need() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
