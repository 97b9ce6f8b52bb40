"""How far a derived table has come with a source, as its own log says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raylake.layers.derived import NEVER, Begun, part_apps, progress_app

Said = Callable[[str], int | None]
"""The version that a table's log has for a txn; None: none."""


def processed(said: Said, source_id: str) -> int:
    """The last version of a source that is processed; :data:`~raylake.layers.derived.NEVER`."""
    found = said(progress_app(source_id))
    return NEVER if found is None else int(found)


def begun(said: Said, source_id: str) -> Begun | None:
    """The part of a version that was brought in last; that version may be processed since."""
    version, rows = (said(app) for app in part_apps(source_id))
    return None if version is None or rows is None else Begun(int(version), int(rows))


def follows_any(apps: Iterable[str]) -> bool:
    """Whether txns say that something of any source was brought in."""
    beginnings = (progress_app(""), part_apps("")[0])
    return any(app.startswith(beginnings) for app in apps)
