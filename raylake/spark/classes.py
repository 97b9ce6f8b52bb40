"""The classes of Spark's JVMs, archived once: read as they lie in memory, and verified no more.

A JVM of Spark loads some 15,000 classes from 250 jars. The first session of a machine writes down
which ones; when no more come, the JVM's own archive of them (class-data sharing, JEP 310) is made
in the cache, beside the work and after it. Later sessions start with it. A JVM that finds an
archive unfit, since a jar is another one, goes on without it. ``python -m raylake.spark`` makes one
beforehand.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raylake.artifacts import cache_folder
from raylake.clock import Clock
from raylake.kafka.java import Java
from raylake.spark.jars import delta_jars
from raylake.spark.java import spark_java
from raylake.spark.raydp import class_path

log = logging.getLogger("raylake.spark")

SETTLED_S: Final = 6.0
"""What a session loads is known when nothing was added for so long."""
LOOK_AGAIN_S: Final = 1.0
KEPT_S: Final = 30 * 86_400.0
"""An archive that nobody started with for so long is deleted when another one is made."""
MAKE_TIMEOUT_S: Final = 900.0
_PREFIX: Final = "spark-classes-"
_HEAP: Final = "-Xmx512m"
_UNSAFE: Final = frozenset(" \t\n\"'\\:,")
"""Spark splits options at spaces, and the JVM the archive's path at colons."""

Run = Callable[[Sequence[str], int], bool]
"""Runs a command that holds a file open; whether it succeeded."""


@dataclass(frozen=True, slots=True)
class ClassArchive:
    """The archive for one Java and one class path.

    Attributes:
        java: The runtime.
        class_path: The jars, in order; a JVM's own class path begins with them.
        folder: Where it is kept, and what it is made of.
    """

    java: Java
    class_path: tuple[Path, ...]
    folder: Path

    @classmethod
    def of(
        cls, java: Java, class_path: Sequence[Path], environ: Mapping[str, str] = os.environ
    ) -> ClassArchive:
        """The archive of these files as they are now, in the cache."""
        jars = tuple(class_path)
        folder = cache_folder(environ) / f"{_PREFIX}{_key(java, jars)}"
        return cls(java, jars, folder)

    @property
    def file(self) -> Path:
        """The archive; there when it is whole."""
        return self.folder / "classes.jsa"

    @property
    def refused(self) -> Path:
        """There when this Java could not make one, with what it said: it is not tried again."""
        return self.folder / "refused.txt"

    def options(self) -> tuple[str, ...]:
        """What a JVM is started with: the archive, or where to write down what it loads.

        Nothing where the cache cannot be written, or is another user's: what lies there is run.
        """
        if _UNSAFE.intersection(str(self.folder)):
            return ()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.folder.stat().st_uid != os.getuid():
                return ()
        except OSError:
            return ()
        if self.file.is_file():
            with suppress(OSError):
                os.utime(self.file)
            return ("-Xshare:auto", f"-XX:SharedArchiveFile={self.file}")
        if self.refused.exists() or not os.access(self.folder, os.W_OK):
            return ()
        return (f"-XX:DumpLoadedClassList={self.folder}/%p.classes",)

    def recorded_bytes(self) -> int:
        """How much was written down so far."""
        written = 0
        for path in self._lists():
            with suppress(FileNotFoundError):  # another process has made the archive of it
                written += path.stat().st_size
        return written

    def make_when_settled(self, clock: Clock) -> None:
        """Wait until nothing is added to what was written down, then :meth:`make` it."""
        before, since_s = -1, clock.monotonic()
        while clock.monotonic() - since_s < SETTLED_S:
            now = self.recorded_bytes()
            if now != before:
                before, since_s = now, clock.monotonic()
            clock.sleep(LOOK_AGAIN_S)
        self.make()

    def make(self, run: Run | None = None, *, wait: bool = False) -> bool:
        """Make it of what was written down, unless another process is about to.

        Whatever happens, nobody starts with half an archive. If it fails, it is not tried again
        for these files.

        Args:
            run: Runs a command.
            wait: For another process that makes it.

        Returns:
            Whether it is there.
        """
        run = run or _run
        try:
            with _alone(self.folder / "make.lock", wait) as lock:
                if lock is not None and not self.file.exists() and not self.refused.exists():
                    self._make(run, lock)
        except OSError as error:
            log.info("no archive of Spark's classes was made: %s", error)
        return self.file.is_file()

    def _make(self, run: Run, lock: int) -> None:
        recorded = list(self._lists())
        names = _names(recorded)
        if not names:
            return
        wanted, part = self.folder / "wanted.txt", self.folder / "classes.part"
        wanted.write_text("".join(f"{name}\n" for name in names))
        part.unlink(missing_ok=True)
        made = f"-XX:SharedArchiveFile={part}"
        path = ("-cp", os.pathsep.join(map(str, self.class_path)))
        quiet = ("-Xlog:disable", "-Xlog:all=error:stderr")
        dump = ("-Xshare:dump", f"-XX:SharedClassListFile={wanted}", made, _HEAP, *quiet, *path)
        check = ("-Xshare:on", made, *quiet, *path, "-version")
        java = str(self.java.executable)
        if run((java, *dump), lock) and run((java, *check), lock):
            part.rename(self.file)
            _forget_unused(self.folder)
        else:
            part.unlink(missing_ok=True)
            self.refused.write_text(f"{java} made no archive of {len(names)} classes\n")
        for one in (wanted, *recorded):
            one.unlink(missing_ok=True)

    def _lists(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("*.classes")))


def session_archive() -> ClassArchive:
    """The archive that a session on this machine would start with.

    Raises:
        JavaMissing, JarsMissing: Spark cannot run here.
    """
    java = spark_java()
    return ClassArchive.of(java, class_path(delta_jars(java)))


def _key(java: Java, jars: Sequence[Path]) -> str:
    """What the JVM compares itself: which Java, and each jar's place, size and time."""
    found = hashlib.sha256()
    for path in (java.executable.resolve(), *jars):
        known = path.stat()
        found.update(f"{path}\0{known.st_size}\0{known.st_mtime_ns}\0".encode())
    return found.hexdigest()[:24]


def _names(recorded: Sequence[Path]) -> list[str]:
    """The lines of all lists, each once; a list that is still written may end within one."""
    names: dict[str, None] = {}
    for path in recorded:
        for line in path.read_text(errors="replace").splitlines(keepends=True):
            if line.endswith("\n") and not line.startswith("#"):
                names[line.rstrip("\n")] = None
    return list(names)


@contextmanager
def _alone(path: Path, wait: bool) -> Iterator[int | None]:
    """The lock's descriptor; None where another process has it, or a command that it left."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield handle.fileno()


def _run(command: Sequence[str], lock: int) -> bool:
    """Run a command behind all other work; it keeps the lock where this process ends before it.

    Raises:
        InterruptedError: Somebody ended it.
    """
    nice = shutil.which("nice")
    behind = [nice, "-n", "19"] if nice else []
    try:
        done = subprocess.run(
            [*behind, *command],
            capture_output=True,
            text=True,
            timeout=MAKE_TIMEOUT_S,
            check=False,
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode < 0:
        # Nothing is said of Java: the next session may try again.
        raise InterruptedError(f"{command[1]} was ended by signal {-done.returncode}")
    if done.returncode:
        log.info("%s: %s", command[1], (done.stderr or done.stdout).strip()[-500:])
    return done.returncode == 0


def _forget_unused(mine: Path) -> None:
    """Delete archives of other jars and other Javas that were used last long ago."""
    for other in mine.parent.glob(f"{_PREFIX}*"):
        file = other / "classes.jsa"
        with suppress(OSError):
            if other != mine and file.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(other)
