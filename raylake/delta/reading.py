"""One word for a log that cannot be read just now, whoever read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError

from raylake.errors import DependencyUnreachable
from raylake.storage.place import Place


@contextmanager
def readable(root: Place) -> Iterator[None]:
    """Says of whatever the store or delta-rs raises that the table cannot be read now.

    Raises:
        DependencyUnreachable: Nothing was changed; it may be tried again.
    """
    try:
        yield
    except (DeltaError, OSError) as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise DependencyUnreachable(f"{root}: the log cannot be read: {reason}") from error
