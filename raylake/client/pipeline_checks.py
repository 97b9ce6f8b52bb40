"""What ``raylake doctor`` looks at for one pipeline file: lake, tables, secrets, room."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from deltalake.exceptions import DeltaError

from raylake.client.checks import GIB, LEAST_DISK_BYTES, Check, failed, memory_bytes
from raylake.client.observer_checks import observer_checks
from raylake.config import Loaded
from raylake.config.addresses import normalise_table_address, table_path
from raylake.config.listen import host_and_port
from raylake.config.scaled import most
from raylake.config.secrets import references
from raylake.delta.features import refuse_unsupported
from raylake.delta.probe import probe_store
from raylake.errors import NotOurTable, RayLakeError
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, delta_table, folders, names, place, write_whole
from raylake.storage.reach import explained

MOST_SKEW_S = 2.0
CONSUMER_BYTES = int(0.3 * GIB)
"""What a consumer takes before it holds anything (docs/operating.md)."""
ACTOR_BYTES = int(0.2 * GIB)


def pipeline_checks(loaded: Loaded) -> Iterator[Check]:
    """What a pipeline file needs on this machine; brokers are looked at elsewhere."""
    lake = place(normalise_table_address(loaded.config.lake))
    yield from _store(lake) if isinstance(lake, StorePath) else _lake(lake)
    yield from _tables(loaded)
    yield from _secrets(loaded)
    yield from observer_checks(loaded.config, os.environ)
    yield _http(loaded)
    yield _room(loaded)


def _lake(lake: Path) -> Iterator[Check]:
    there = lake
    while not there.exists():
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
        found = f"{free / GIB:.1f} GiB free for {lake}"
        state: Literal["ok", "warn"] = "ok" if free >= LEAST_DISK_BYTES else "warn"
        yield Check("disk", state, found, "" if state == "ok" else "free some space")
        with tempfile.TemporaryDirectory(prefix=".raylake-doctor-", dir=there) as scratch:
            probe_store(Path(scratch))
            file = Path(scratch) / "clock"
            file.touch()
            skew_s = abs(file.stat().st_mtime - time.time())
    except OSError as error:
        fix = "may this user write there, and is there space?"
        yield Check("lake", "fail", f"{there}: {error.strerror or error}", fix, 5)
        return
    except RayLakeError as error:
        yield failed("lake", error)
        return
    yield Check("lake", "ok", f"{lake} takes commits, one writer a version")
    yield _clock(skew_s)
    yield _least_rights(lake)


def _store(lake: StorePath) -> Iterator[Check]:
    probe = lake / f".raylake-doctor-{secrets.token_hex(4)}"
    try:
        probe_store(lake)
        write_whole(probe, "")
        skew_s = abs(probe.stat().st_mtime - time.time())
        probe.unlink()
    except OSError as error:
        yield failed("lake", explained(lake, error))
        return
    except RayLakeError as error:
        yield failed("lake", error)
        return
    yield Check("lake", "ok", f"{lake} takes commits, one writer a version")
    yield _clock(skew_s)


def _clock(skew_s: float) -> Check:
    if skew_s > MOST_SKEW_S:
        fix = "set the clocks by NTP, here and where the folder is"
        return Check("clock", "warn", f"{skew_s:.1f} s from the lake's", fix)
    return Check("clock", "ok", "agrees with the lake's")


def _least_rights(lake: Path) -> Check:
    if lake.exists() and lake.stat().st_mode & stat.S_IWOTH:
        found = f"everybody on this machine may write {lake}"
        return Check("rights on the lake", "warn", found, f"chmod o-w {lake}")
    return Check("rights on the lake", "ok", "no more than its owner and group may write it")


def _tables(loaded: Loaded) -> Iterator[Check]:
    for name, spec in loaded.config.bronze.items():
        if spec.fans_out:
            continue  # its tables are named by topics
        path = place(table_path(loaded.config, f"bronze.{name}"))
        if isinstance(path, Path) and not path.exists():
            yield Check(f"table bronze.{name}", "ok", "not there yet; the first run creates it")
            continue
        try:
            yield _table(name, path)
        except RayLakeError as error:
            yield failed(f"table bronze.{name}", error)


def _table(name: str, path: Place) -> Check:
    try:
        table = delta_table(path)
        refuse_unsupported(table, str(path))
    except (DeltaError, OSError) as error:
        if not (path / "_delta_log").exists() and not names(path) and not folders(path):
            return Check(f"table bronze.{name}", "ok", "an empty folder; the first run creates it")
        raise NotOurTable(
            f"{path}: is not a Delta table that can be read: {str(error).splitlines()[0]}",
            hint="choose another path; a damaged log is repaired as docs/guarantees.md says",
        ) from error
    protocol = table.protocol()
    versions = f"protocol {protocol.min_reader_version}/{protocol.min_writer_version}"
    listed = set(protocol.reader_features or ()) | set(protocol.writer_features or ())
    features = f", features {', '.join(sorted(listed))}" if listed else ""
    return Check(f"table bronze.{name}", "ok", f"version {table.version()}, {versions}{features}")


def _secrets(loaded: Loaded) -> Iterator[Check]:
    for reference in sorted(set(references(loaded.config)), key=str):
        name = f"secret {reference}"
        try:
            reference.resolve()
        except RayLakeError as error:
            yield failed(name, error)
            continue
        opened = reference.kind == "file" and Path(reference.name).stat().st_mode & stat.S_IRWXO
        if opened:
            fix = f"chmod 600 {reference.name}"
            yield Check(name, "warn", "resolves here; everybody on this machine can read it", fix)
        else:
            yield Check(name, "ok", "resolves here; on a cluster each node resolves it itself")


def _http(loaded: Loaded) -> Check:
    listen = host_and_port(loaded.config.ingest.http)
    if listen is None:
        return Check("port of ingest.http", "ok", "off")
    if listen[1] == 0:
        return Check("port of ingest.http", "ok", "a free one; `raylake status` shows it")
    address = f"{listen[0]}:{listen[1]}"
    family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(listen)
    except OSError as error:
        found = f"{address} cannot be had: {error.strerror or error}"
        fix = "end what listens there (it may be this pipeline's run), or choose another port"
        return Check("port of ingest.http", "warn", found, fix)
    return Check("port of ingest.http", "ok", f"{address} is free")


def _room(loaded: Loaded) -> Check:
    """What a run of this file takes here, against what there is."""
    config = loaded.config
    consumers = most(config.ingest.consumers)
    # Beside the consumers: an owner a table, the supervisor and the dead-letter queue.
    others = len(config.bronze) + 2
    needed = consumers * (CONSUMER_BYTES + config.ingest.buffer_bytes) + others * ACTOR_BYTES
    free = memory_bytes()
    found = (
        f"a run takes up to {needed / GIB:.1f} GiB ({consumers} consumers, {others} others); "
        f"{free / GIB:.1f} GiB available"
    )
    if needed <= free:
        return Check("memory for this pipeline", "ok", found)
    fix = "lower ingest.consumers or ingest.buffer, or run it on a cluster"
    return Check("memory for this pipeline", "warn", found, fix)
