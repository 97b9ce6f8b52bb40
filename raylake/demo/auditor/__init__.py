"""An independent audit of a bronze table: shares no code with the product.

It imports nothing of RayLake's and no Delta library: it replays the Delta log itself (JSON commits,
checkpoint Parquet through DuckDB), reads the live Parquet files with DuckDB in bounded memory, and
compares topic, partition, offset and the MD5 of the exact value bytes with the producer's own
record (its format: ``raylake/demo/record.py``).

``python -m raylake.demo.auditor --table DIR --dead-letters DIR --record FILE… [--json]``

With ``--derived SILVER GOLD QUARANTINE`` it computes the demo's silver and gold anew from bronze's
value bytes and compares them row by row; what silver turned away is held against the producers'
notes, too.

Exit codes: 0 the books balance, 3 they do not, 1 something could not be read.
"""

from __future__ import annotations

from .books import Scope, audit
from .derived import Tables, audit_derived
from .replay import AuditError, Snapshot, replay
from .report import DAMAGES, AuditReport, Compared, DerivedReport

__all__ = [
    "DAMAGES",
    "AuditError",
    "AuditReport",
    "Compared",
    "DerivedReport",
    "Scope",
    "Snapshot",
    "Tables",
    "audit",
    "audit_derived",
    "replay",
]
