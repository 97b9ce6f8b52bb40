"""The auditor's command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from .books import Scope, audit
from .replay import AuditError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="raylake.demo.auditor", description="An independent audit"
    )
    parser.add_argument("--table", required=True, help="the bronze table's folder")
    parser.add_argument("--dead-letters", help="the dead-letter table's folder")
    parser.add_argument("--record", required=True, nargs="+", help="the producers' record files")
    parser.add_argument("--dead-letters-of", help="only dead letters of this table (bronze.orders)")
    parser.add_argument("--coordinates-only", action="store_true", help="compare no values")
    parser.add_argument("--memory", default="1GB", help="DuckDB's memory limit")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    scope = Scope(options.dead_letters_of, options.coordinates_only, options.memory)
    try:
        report = audit(options.table, options.dead_letters, options.record, scope)
    except AuditError as error:
        sys.stderr.write(f"audit failed: {error}\n")
        return 1
    text = json.dumps(report.to_json()) if options.json else report.to_text()
    sys.stdout.write(text + "\n")
    return 0 if report.balanced else 3


if __name__ == "__main__":
    sys.exit(main())
