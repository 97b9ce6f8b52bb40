"""What became of an owner's tries to commit: only the log tells (I4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from raylake.delta import log_files
from raylake.errors import OutcomeUnknown
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place


@dataclass(frozen=True, slots=True)
class Draft:
    """One commit before it is written.

    Attributes:
        kind: As in :func:`raylake.delta.metadata.base`.
        values: Txn versions by app id, without the owner's.
        extra: Further commit metadata.
        files: Data files to add.
        batch: The batch uuid.
    """

    kind: str
    values: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[DataFile] = ()
    batch: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to commit a draft.

    Attributes:
        draft: What is to be committed.
        base_version: The version that was checked.
        number: The owner number that the commit writes.
        landed: Called with the version once it is known to be in the log.
    """

    draft: Draft
    base_version: int
    number: int
    landed: Callable[[int], None]


class Attempts:
    """The try under way, and those that were not in the log when it was looked at.

    A store may apply a put that it has not answered after it was looked for; so a try that was
    given up is remembered until another one has landed.
    """

    def __init__(self, root: Place) -> None:
        self._root = root
        self._pending: Attempt | None = None
        self._given_up: list[Attempt] = []

    def begin(self, attempt: Attempt) -> None:
        """A try begins; the one before it is settled."""
        self._pending = attempt

    def decided(self, attempt: Attempt) -> Attempt:
        """This one landed: nothing is open any more."""
        # All others were for its version, which is taken, or for an earlier one.
        self._pending = None
        self._given_up.clear()
        return attempt

    def settled(self) -> tuple[Attempt, int] | None:
        """The try under way and its version, where it is in the log; given up where it is not.

        Raises:
            OutcomeUnknown: The log cannot be read; it stays open.
        """
        if self._pending is None:
            return None
        version = self._find(self._pending)
        if version is None:
            self._given_up.append(self._pending)
            self._pending = None
            return None
        return self.decided(self._pending), version

    def late(self, number: int | None) -> tuple[Attempt, int] | None:
        """The try of this owner number and its version, where it landed after it was given up.

        Raises:
            OutcomeUnknown: The log cannot be read.
        """
        for attempt in self._given_up:
            if attempt.number == number and (version := self._find(attempt)) is not None:
                return self.decided(attempt), version
        return None

    def _find(self, attempt: Attempt) -> int | None:
        try:
            return log_files.find_batch(self._root, attempt.draft.batch, attempt.base_version)
        except OSError as error:
            raise OutcomeUnknown(
                f"{self._root}: a commit failed and its log cannot be read: {error}",
                hint="The owner reads the log again before it commits anything else.",
            ) from error


def is_panic(error: BaseException) -> bool:
    """Whether Rust code panicked; such an error is no ``Exception``, and does not pickle."""
    return type(error).__module__ == "pyo3_runtime"


class Ending:
    """Hands whatever ended a write to one who reads in the log what became of it (I4).

    delta-rs raises plain ``Exception`` for some failures, and also when its post-commit work fails
    after the commit landed.
    """

    def __init__(self, ended: Callable[[Exception | None], None]) -> None:
        self._ended = ended

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """True when the commit is in the log in spite of the error."""
        if error is not None and not isinstance(error, Exception):
            if not is_panic(error):
                return False
            error = RuntimeError(f"delta-rs panicked: {error}")
        self._ended(error)
        return True
