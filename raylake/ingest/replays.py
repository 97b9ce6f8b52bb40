"""Replays on their way to a running pipeline; too large for an order, they lie beside it."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from typing import Final

from raylake.delta.replaying import Replay
from raylake.errors import ConfigError
from raylake.ingest.orders import order_folder
from raylake.storage.place import Place, make_folder, write_whole

_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


def new_replay_id() -> str:
    """A replay's id: sortable by time, unique."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def leave(status_file: Place, replay: Replay) -> Place:
    """Put a replay where the pipeline's run finds it.

    Raises:
        OSError: The lake cannot be written.
    """
    path = _path(status_file, replay.replay_id)
    make_folder(path.parent)
    write_whole(path, json.dumps(replay.to_dict()))
    return path


def found(status_file: Place, replay_id: object) -> Replay:
    """The replay that somebody left.

    Raises:
        ConfigError: There is none with this id, or it is none.
    """
    if not isinstance(replay_id, str) or not _ID.fullmatch(replay_id):
        raise ConfigError(f"{replay_id!r} is no replay's id")
    path = _path(status_file, replay_id)
    try:
        replay = Replay.from_dict(json.loads(path.read_bytes()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: no replay can be read there: {error}") from error
    if replay.replay_id != replay_id:
        raise ConfigError(f"{path}: holds replay {replay.replay_id!r}")
    return replay


def _path(status_file: Place, replay_id: str) -> Place:
    orders = order_folder(status_file)
    return orders.parent.parent / "replays" / orders.name / f"{replay_id}.json"
