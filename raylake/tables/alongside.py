"""What a commit carries beside its rows: how far a reader of something else has come, and notes.

A table that follows from another one says in its own log what of that one it holds. Rows and
progress are one commit, and it is made only on the progress that it was computed from: so each
span is applied once, whoever tries it, and however often (ADR 37).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Alongside:
    """What a commit carries beside its rows.

    An operation with it makes exactly one version, also where no row changes.

    Attributes:
        txns: App id to version: ``txn`` actions of the commit.
        expected: App id to the version that the table's log must have on the very snapshot that the
            commit is based on; None: none yet.
        metadata: Further keys of the commit's own metadata
            (:data:`raylake.tables.landing.KEY`); plain JSON.
    """

    txns: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, int | None] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
