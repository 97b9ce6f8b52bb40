"""A real Apache Kafka broker on this machine, for trying things out and for the tests.

One JVM in combined mode (KRaft broker and controller) on loopback ports. An *instance* is a name
with its own ports, data and log below the cache folder, so tests and the demo leave the user's
broker alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from raylake.errors import ConfigError, RayLakeError
from raylake.kafka.artifacts import KAFKA_VERSION, cache_folder, file_lock, kafka_jars
from raylake.kafka.dev_security import DevSecurity
from raylake.kafka.java import Java, find_java
from raylake.processes import ended, living

DEFAULT_PORT = 9092
MAX_MESSAGE_BYTES = 100 * 1024 * 1024
_HOST = "127.0.0.1"
_CLUSTER_ID = "cmF5bGFrZS1kZXYtMDAwMA"
_START_ATTEMPTS = 3
_LOOK_AGAIN_S = 0.1
_LISTED = ("listeners", "advertised.listeners", "listener.security.protocol.map")


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A local broker that runs.

    Attributes:
        bootstrap: Its address, ``host:port``.
        pid: Its process.
        created_s: When that process was created (seconds since the epoch), so that another process
            which got the same number later is never mistaken for it.
        port: The port of the address.
        controller_port: The port of its controller.
        version: Kafka's version.
        data: Its data folder.
        log: Its log file.
        listeners: The ports of the listeners that want credentials, by name; none has been asked
            for when it is empty.
    """

    bootstrap: str
    pid: int
    created_s: float
    port: int
    controller_port: int
    version: str
    data: str
    log: str
    listeners: dict[str, int] = field(default_factory=dict)

    def address(self, listener: str) -> str:
        """``host:port`` of a listener that wants credentials."""
        return f"{_HOST}:{self.listeners[listener]}"


class DevBroker:
    """One named local broker.

    Args:
        cache: Where jars and instances live; default: ``RAYLAKE_CACHE`` or ``~/.cache/raylake``.
        instance: The instance's name. ``default`` listens on port 9092 when that is free, every
            other one on a port that happens to be free. An instance keeps its ports.
        settings: Further broker settings, applied at the next start.
        secure: Also have listeners that want credentials; an instance that had them keeps them.
    """

    def __init__(
        self,
        cache: Path | None = None,
        instance: str = "default",
        settings: dict[str, str] | None = None,
        *,
        secure: bool = False,
    ) -> None:
        if not instance.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{instance!r} cannot name a broker: use letters, digits, - and _")
        self._cache = (cache or cache_folder()).expanduser().absolute()
        self._instance = instance
        self._settings = dict(settings or {})
        self._home = self._cache / "dev" / instance
        self._state = self._home / "broker.json"
        self._secure = secure
        self.security = DevSecurity(self._home / "security")
        """Certificates, users and listeners."""

    @property
    def log(self) -> Path:
        """The broker's log file."""
        return self._home / "broker.log"

    def status(self) -> BrokerInfo | None:
        """The broker when its process lives, else None."""
        info = self._recorded()
        return info if info is not None and _process(info) is not None else None

    def up(self, timeout_s: float = 60.0) -> BrokerInfo:
        """Start the broker, or return the one that runs; it answers requests on return.

        Data of an earlier run is kept, and so is the address.

        Raises:
            ConfigError: No Java, no way to get the jars, or it runs without the secured listeners
                that are asked for now.
            DependencyUnreachable: The jars could not be downloaded.
            RayLakeError: The broker did not start; the message holds the end of its log.
        """
        java = find_java()
        jars = kafka_jars(self._cache, java)
        with self._locked():
            running = self.status()
            if running is not None:
                self._refuse_unsecured(running)
                _wait_ready(running, timeout_s)
                if running.listeners and not self.security.granted:
                    # Whoever started it was interrupted.
                    self.security.grant(running.bootstrap)
                return running
            for attempt in range(_START_ATTEMPTS):
                try:
                    return self._start(java, jars, timeout_s, fresh_ports=attempt > 0)
                except _PortTakenError:
                    if attempt == _START_ATTEMPTS - 1:
                        raise
            raise AssertionError

    def _refuse_unsecured(self, running: BrokerInfo) -> None:
        if self._secure and not running.listeners:
            raise ConfigError(
                f"the local broker {self._instance!r} runs without secured listeners",
                hint="`raylake dev down`, then `raylake dev up --secure`; or another --instance",
            )

    def down(self, *, wipe: bool = False, timeout_s: float = 30.0) -> bool:
        """Stop the broker; returns whether one ran.

        Args:
            wipe: Also delete its folder: data, log and remembered ports.
            timeout_s: How long a clean stop may take before the process is killed.
        """
        with self._locked():
            process = self._running_process()
            if process is not None:
                process.terminate()
                if not ended(process, timeout_s):
                    _kill(process, timeout_s)
            if wipe:
                shutil.rmtree(self._home, ignore_errors=True)
            return process is not None

    def kill(self, timeout_s: float = 30.0) -> bool:
        """SIGKILL the broker, as a crash would; returns whether one ran."""
        with self._locked():
            process = self._running_process()
            if process is not None:
                _kill(process, timeout_s)
            return process is not None

    def _running_process(self) -> psutil.Process | None:
        info = self._recorded()
        return _process(info) if info is not None else None

    def _recorded(self) -> BrokerInfo | None:
        try:
            return BrokerInfo(**json.loads(self._state.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with file_lock(self._cache / "dev" / f"{self._instance}.lock"):
            yield

    def _start(self, java: Java, jars: Path, timeout_s: float, *, fresh_ports: bool) -> BrokerInfo:
        self._home.mkdir(parents=True, exist_ok=True)
        port, controller_port = self._ports(fresh=fresh_ports)
        listeners = self._listeners(fresh=fresh_ports)
        properties = self._home / "server.properties"
        # It may hold passwords.
        properties.touch(mode=0o600)
        properties.chmod(0o600)
        properties.write_text(self._properties(port, controller_port, listeners))
        classpath = f"{jars}{os.sep}*"
        if not (self._home / "data" / "meta.properties").exists():
            self._format(java, classpath, properties)
        command = java.command(
            *("-Xms128m", "-Xmx1g", "-XX:+UseSerialGC", "-Djava.awt.headless=true"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            *("-cp", classpath, "kafka.Kafka", str(properties)),
        )
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                start_new_session=True,
            )
        info = BrokerInfo(
            bootstrap=f"{_HOST}:{port}",
            pid=child.pid,
            created_s=psutil.Process(child.pid).create_time(),
            port=port,
            controller_port=controller_port,
            version=KAFKA_VERSION,
            data=str(self._home / "data"),
            log=str(self.log),
            listeners=listeners,
        )
        self.security.forget_grant()
        scratch = self._state.with_suffix(".tmp")
        scratch.write_text(json.dumps(asdict(info), indent=1))
        scratch.replace(self._state)
        _wait_ready(info, timeout_s)
        if listeners:
            self.security.grant(info.bootstrap)
        return info

    def _ports(self, *, fresh: bool) -> tuple[int, int]:
        recorded = self._recorded()
        if recorded is not None and not fresh:
            return recorded.port, recorded.controller_port
        preferred = DEFAULT_PORT if self._instance == "default" and not fresh else 0
        with _bound(preferred) as first, _bound(0) as second:
            return first.getsockname()[1], second.getsockname()[1]

    def _listeners(self, *, fresh: bool) -> dict[str, int]:
        if not self._secure and not self.security.made:
            return {}
        self.security.prepare()
        recorded = self._recorded()
        known = recorded.listeners if recorded is not None and not fresh else {}
        with ExitStack() as stack:
            return {
                one.name: known.get(one.name) or stack.enter_context(_bound(0)).getsockname()[1]
                for one in self.security.listeners
            }

    def _format(self, java: Java, classpath: str, properties: Path) -> None:
        shutil.rmtree(self._home / "data", ignore_errors=True)
        tool = ("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties))
        done = subprocess.run(
            java.command("-Xmx128m", "-cp", classpath, *tool),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RayLakeError(
                f"the data folder of the local broker {self._instance!r} could not be formatted: "
                f"{(done.stdout + done.stderr).strip()[:800]}"
            )

    def _properties(self, port: int, controller_port: int, listeners: dict[str, int]) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{_HOST}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{_HOST}:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._home / "data"),
            "auto.create.topics.enable": "false",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
            "socket.request.max.bytes": str(2 * MAX_MESSAGE_BYTES),
            # The cleaner looks every 15 s; its default buffer is a quarter of this small heap.
            "log.cleaner.backoff.ms": "1000",
            "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
            "log.segment.delete.delay.ms": "1000",
            **self._settings,
        }
        if listeners:
            for key, value in self.security.settings(listeners, _HOST).items():
                joined = key in _LISTED and key in settings
                settings[key] = f"{settings[key]},{value}" if joined else value
        return "".join(f"{key}={value}\n" for key, value in settings.items())


class _PortTakenError(RayLakeError):
    """Something else listens on the port."""


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            probe.bind((_HOST, 0))
        yield probe


def _process(info: BrokerInfo) -> psutil.Process | None:
    return living(info.pid, info.created_s)


def _kill(process: psutil.Process, timeout_s: float) -> None:
    process.kill()
    if not ended(process, timeout_s):
        raise RayLakeError(
            f"the local broker (pid {process.pid}) has not ended {timeout_s:g} s after SIGKILL",
            hint="its disk may not answer",
        )


def _wait_ready(info: BrokerInfo, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _process(info) is None:
            text = _tail(Path(info.log))
            kind = _PortTakenError if "Address already in use" in text else RayLakeError
            raise kind(f"the local broker stopped while starting; the end of {info.log}:\n{text}")
        if _answers(info):
            return
        time.sleep(0.05)
    raise RayLakeError(
        f"the local broker (pid {info.pid}) did not answer within {timeout_s:g} s; the end of "
        f"{info.log}:\n{_tail(Path(info.log))}"
    )


def _answers(info: BrokerInfo) -> bool:
    try:
        socket.create_connection((_HOST, info.port), timeout=1.0).close()
        admin = KafkaAdminClient(bootstrap_servers=info.bootstrap, bootstrap_timeout_ms=2000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def _tail(path: Path, count: int = 15) -> str:
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
