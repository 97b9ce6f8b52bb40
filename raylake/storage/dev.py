"""A local S3-compatible store on this machine, for trying things out and for the tests.

moto's server on a loopback port, from PyPI. What is in it is held in memory and gone with its
process. An *instance* is a name with its own port and log below the cache folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Final

import psutil

from raylake.errors import ConfigError, RayLakeError
from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.processes import ended, living

DEFAULT_PORT: Final = 9000
BUCKET: Final = "lake"
KEY_ID: Final = "raylake-dev"
KEY: Final = "not-a-secret"  # of a store on loopback that holds what this machine's user put there
_HOST: Final = "127.0.0.1"
_LOOK_AGAIN_S: Final = 0.1
_LOG_TAIL_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A local store that runs.

    Attributes:
        endpoint: Its URL.
        bucket: The bucket that is there from the beginning.
        access_key_id: Whose requests it takes.
        secret_access_key: The key that signs them; no secret.
        pid: Its process.
        created_s: When that process was created, seconds since the epoch.
        log: Its log file.
    """

    endpoint: str
    bucket: str
    access_key_id: str
    secret_access_key: str
    pid: int
    created_s: float
    log: str

    @property
    def port(self) -> int:
        """The endpoint's port."""
        return int(self.endpoint.rpartition(":")[2])

    def exports(self) -> list[str]:
        """Shell lines after which every S3 client of that shell reaches it."""
        return [
            f"export AWS_ENDPOINT_URL={self.endpoint} AWS_ALLOW_HTTP=true",
            f"export AWS_ACCESS_KEY_ID={self.access_key_id}",
            f"export AWS_SECRET_ACCESS_KEY={self.secret_access_key}",
        ]


class DevStore:
    """One named local store.

    Args:
        cache: Where instances live; default: ``RAYLAKE_CACHE`` or ``~/.cache/raylake``.
        instance: The instance's name. ``default`` listens on port 9000 when that is free.
    """

    environment: ClassVar[dict[str, str]] = {"INITIAL_NO_AUTH_ACTION_COUNT": "0"}
    """With it moto checks the signature of each request from the first one on."""

    def __init__(self, cache: Path | None = None, instance: str = "default") -> None:
        self._cache = (cache or cache_folder()).expanduser().absolute()
        self._instance = instance
        self._home = self._cache / "dev" / f"{instance}-store"
        self._state = self._home / "store.json"

    @staticmethod
    def available() -> bool:
        """Whether what it is made of is installed."""
        return importlib.util.find_spec("moto") is not None

    def status(self) -> StoreInfo | None:
        """The store when its process lives, else None."""
        try:
            info = StoreInfo(**json.loads(self._state.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return info if living(info.pid, info.created_s) is not None else None

    def up(self, timeout_s: float = 60.0) -> StoreInfo:
        """Start the store, or return the one that runs; it answers requests on return.

        Raises:
            ConfigError: moto is not installed.
            RayLakeError: It did not start; the message holds the end of its log.
        """
        if not self.available():
            raise ConfigError(
                "the local S3-compatible store is not installed",
                hint="pip install 'raylake[devstore]'",
            )
        with file_lock(self._cache / "dev" / f"{self._instance}-store.lock"):
            return self.status() or self._start(timeout_s)

    def down(self, timeout_s: float = 30.0) -> bool:
        """Stop the store, with all that is in it; returns whether one ran."""
        with file_lock(self._cache / "dev" / f"{self._instance}-store.lock"):
            info = self.status()
            process = None if info is None else living(info.pid, info.created_s)
            if process is not None:
                process.kill()
                ended(process, timeout_s)
            shutil.rmtree(self._home, ignore_errors=True)
            return process is not None

    def _start(self, timeout_s: float) -> StoreInfo:
        self._home.mkdir(parents=True, exist_ok=True)
        log = self._home / "store.log"
        environment = {
            **os.environ,
            **self.environment,
            "RAYLAKE_DEV_KEY_ID": KEY_ID,
            "RAYLAKE_DEV_KEY": KEY,
        }
        with self._free_port() as port:
            pass
        command = [sys.executable, "-m", "raylake.storage.dev_server"]
        command += ["--port", str(port), "--bucket", BUCKET]
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        endpoint = f"http://{_HOST}:{port}"
        created_s = psutil.Process(child.pid).create_time()
        info = StoreInfo(endpoint, BUCKET, KEY_ID, KEY, child.pid, created_s, str(log))
        self._wait(child, info, timeout_s)
        self._state.write_text(json.dumps(asdict(info), indent=1))
        return info

    @contextmanager
    def _free_port(self) -> Iterator[int]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, DEFAULT_PORT if self._instance == "default" else 0))
            except OSError:
                probe.bind((_HOST, 0))
            yield probe.getsockname()[1]

    def _wait(self, child: subprocess.Popen[bytes], info: StoreInfo, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((_HOST, info.port)) == 0:
                    return
            time.sleep(_LOOK_AGAIN_S)
        child.kill()
        said = Path(info.log).read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        raise RayLakeError(f"the local store did not start; its log ends: {said}")
