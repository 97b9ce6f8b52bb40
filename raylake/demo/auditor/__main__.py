"""The auditor's command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from .books import Scope, audit
from .derived import Tables, audit_derived
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
    parser.add_argument(
        "--derived",
        nargs=3,
        metavar=("SILVER", "GOLD", "QUARANTINE"),
        help="the demo's tables that follow from the bronze one: computed anew and compared",
    )
    parser.add_argument("--memory", default="1GB", help="DuckDB's memory limit")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    scope = Scope(options.dead_letters_of, options.coordinates_only, options.memory)
    try:
        report = audit(options.table, options.dead_letters, options.record, scope)
        derived = None
        if options.derived:
            tables = Tables(options.table, *options.derived)
            derived = audit_derived(tables, options.record, options.memory)
    except AuditError as error:
        sys.stderr.write(f"audit failed: {error}\n")
        return 1
    document, texts = report.to_json(), [report.to_text()]
    if derived is not None:
        document["derived"] = derived.to_json()
        texts.append(derived.to_text())
    sys.stdout.write((json.dumps(document) if options.json else "\n".join(texts)) + "\n")
    return 0 if report.balanced and (derived is None or derived.same) else 3


if __name__ == "__main__":
    sys.exit(main())
