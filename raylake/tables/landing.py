"""What became of an engine's commit: only the log tells, also after an error (I4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deltalake import CommitProperties, Transaction

from raylake.delta import log_files
from raylake.errors import LogDamaged
from raylake.storage.place import Place
from raylake.tables.alongside import Alongside
from raylake.tables.errors import OutcomeUnread
from raylake.tables.port import Fence
from raylake.tables.requests import Write
from raylake.tables.results import FileCounts

KEY: Final = "raylake_operation"
"""Where a commit names the operation that made it: ``{"batch": …, "operation": …}``, beside what it
carries (:class:`~raylake.tables.alongside.Alongside`). An owner's own commits have ``raylake``.

delta-rs puts it into commitInfo, Spark into the JSON of its ``userMetadata``.
"""


@dataclass(frozen=True, slots=True)
class Landed:
    """A commit of ours, found in the log.

    Attributes:
        version: Its version.
        metrics: What the engine counted.
        files: Data files by what became of them.
    """

    version: int
    metrics: Mapping[str, Any]
    files: FileCounts


@dataclass(frozen=True, slots=True)
class Signature:
    """What the commit of one operation says of itself, whoever makes it.

    Attributes:
        batch: By which it is found again.
        operation: What is done.
        fence: The slot's number; None without a slot.
        alongside: What it carries; None: nothing.
    """

    batch: str
    operation: Write
    fence: Fence | None = None
    alongside: Alongside | None = None

    @property
    def name(self) -> str:
        """The operation's name."""
        return type(self.operation).__name__.lower()

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        """What its metadata has under :data:`KEY`."""
        more = {} if self.alongside is None else self.alongside.metadata
        return {KEY: {**more, "batch": self.batch, "operation": self.name}}

    def properties(self, retries: int | None = 0) -> CommitProperties:
        """The same as delta-rs takes it.

        Args:
            retries: How often delta-rs may put the commit behind another writer's by itself, where
                no number is to be on the very version that it was checked on.
        """
        txns = [] if self.fence is None else [Transaction(*self.fence)]
        if self.alongside is not None:
            txns += [Transaction(app, n) for app, n in sorted(self.alongside.txns.items())]
        return CommitProperties(
            custom_metadata=self.metadata,
            # A number was checked on this very version: another one must not pass under it.
            max_commit_retries=retries if self.fence is None and self.alongside is None else 0,
            app_transactions=txns or None,
        )


def landed(root: Place, batch: str, after_version: int) -> Landed | None:
    """The commit of a batch, where one of the versions since then is it.

    Raises:
        OutcomeUnread: The log cannot be read.
    """
    version = after_version + 1
    try:
        while (actions := log_files.read_commit(root, version)) is not None:
            info = log_files.commit_info(actions)
            if operation_metadata(info).get("batch") == batch:
                metrics = info.get("operationMetrics")
                counted = metrics if isinstance(metrics, dict) else {}
                return Landed(version, counted, counted_files(actions))
            version += 1
    except (OSError, LogDamaged) as error:
        raise OutcomeUnread(
            f"{root}: whether batch {batch} was committed cannot be told: {error}",
            hint=f"look for the batch in `{KEY}` of the versions after {after_version} before the "
            "operation is repeated",
            batch=batch,
            after_version=after_version,
        ) from error
    return None


def operation_metadata(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a ``commitInfo`` has of the operation that made it; empty where it was none of ours.

    ``batch`` and ``operation``, and what was given as :attr:`Alongside.metadata`.
    """
    found = info.get(KEY)
    if found is None and KEY in str(info.get("userMetadata", "")):
        try:
            found = json.loads(info["userMetadata"]).get(KEY)
        except (ValueError, AttributeError):
            found = None
    return found if isinstance(found, dict) else {}


def counted_files(actions: Sequence[Mapping[str, Any]]) -> FileCounts:
    """Data files that the actions of a commit added and removed."""
    adds = [action["add"] for action in actions if action.get("add")]
    removes = [action["remove"] for action in actions if action.get("remove")]
    return FileCounts(
        added=len(adds),
        removed=len(removes),
        added_bytes=sum(int(one.get("size") or 0) for one in adds),
        removed_bytes=sum(int(one.get("size") or 0) for one in removes),
    )
