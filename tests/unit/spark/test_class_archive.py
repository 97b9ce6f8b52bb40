"""When Spark's JVMs are started with an archive of their classes, and who makes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from raylake.clock import ManualClock
from raylake.kafka.java import Java
from raylake.spark.classes import KEPT_S, SETTLED_S, ClassArchive


class Jvm:
    """Stands in for Java: writes an archive of the names that it is given."""

    def __init__(self, *, dumps: bool = True, fits: bool = True) -> None:
        self.commands: list[Sequence[str]] = []
        self._dumps, self._fits = dumps, fits

    def __call__(self, command: Sequence[str], lock: int) -> bool:
        del lock
        self.commands.append(command)
        if "-Xshare:on" in command:
            return self._fits
        said = dict(one.partition("=")[::2] for one in command)
        names = Path(said["-XX:SharedClassListFile"]).read_text()
        Path(said["-XX:SharedArchiveFile"]).write_text(names)
        return self._dumps


@pytest.fixture
def jars(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "jars" / name for name in ("raydp.jar", "spark.jar")]
    (tmp_path / "jars").mkdir()
    for jar in made:
        jar.write_bytes(b"jar")
    return made


@pytest.fixture
def java(tmp_path: Path) -> Java:
    executable = tmp_path / "java"
    executable.write_text("one")
    return Java(executable, 17)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"RAYLAKE_CACHE": str(tmp_path / "cache")}


@pytest.fixture
def archive(java: Java, jars: list[Path], environ: dict[str, str]) -> ClassArchive:
    return ClassArchive.of(java, jars, environ)


def record(archive: ClassArchive, pid: int, text: str) -> Path:
    """What a JVM with this pid writes, told so by the options."""
    (option,) = archive.options()
    path = Path(option.removeprefix("-XX:DumpLoadedClassList=").replace("%p", str(pid)))
    path.write_text(text)
    return path


def test_what_is_written_down_once_is_what_later_jvms_start_with(archive: ClassArchive) -> None:
    recorded = [
        record(archive, 1, "# begins\njava/lang/Object id: 0\na/A id: 1\n"),
        record(archive, 2, "java/lang/Object id: 0\nb/B id: 2\nnot/who"),
    ]
    jvm = Jvm()
    assert archive.make(jvm)
    assert archive.file.read_text() == "java/lang/Object id: 0\na/A id: 1\nb/B id: 2\n"
    assert not any(one.exists() for one in recorded)
    assert archive.options() == ("-Xshare:auto", f"-XX:SharedArchiveFile={archive.file}")
    path = os.pathsep.join(map(str, archive.class_path))
    assert all(command[command.index("-cp") + 1] == path for command in jvm.commands)
    assert len(jvm.commands) == 2
    assert archive.make(jvm)
    assert len(jvm.commands) == 2, "it is made once"


def test_another_java_or_another_jar_has_another_archive(
    archive: ClassArchive, java: Java, jars: list[Path], environ: dict[str, str]
) -> None:
    assert ClassArchive.of(java, jars, environ) == archive
    folders = {archive.folder, ClassArchive.of(java, jars[::-1], environ).folder}
    jars[1].write_bytes(b"newer")
    folders.add(ClassArchive.of(java, jars, environ).folder)
    os.utime(jars[1], (1, 1))
    folders.add(ClassArchive.of(java, jars, environ).folder)
    java.executable.write_text("another")
    folders.add(ClassArchive.of(java, jars, environ).folder)
    assert len(folders) == 5


def test_of_two_makers_one_makes_it(archive: ClassArchive) -> None:
    record(archive, 1, "a/A id: 1\n")
    jvm = Jvm()
    with (archive.folder / "make.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not archive.make(jvm)
        assert jvm.commands == []
    assert archive.make(jvm)


@pytest.mark.parametrize("jvm", [Jvm(dumps=False), Jvm(fits=False)], ids=["no dump", "unfit"])
def test_a_java_that_makes_none_is_not_asked_again(archive: ClassArchive, jvm: Jvm) -> None:
    record(archive, 1, "a/A id: 1\n")
    assert not archive.make(jvm)
    asked = len(jvm.commands)
    assert archive.options() == ()
    assert not archive.make(jvm)
    assert len(jvm.commands) == asked
    assert [one.name for one in archive.folder.iterdir() if one != archive.refused] == ["make.lock"]


def test_a_half_written_one_is_not_used(archive: ClassArchive) -> None:
    record(archive, 1, "a/A id: 1\n")
    (archive.folder / "classes.part").write_text("half")
    assert "-Xshare:auto" not in archive.options()
    assert archive.make(Jvm())
    assert archive.file.read_text() == "a/A id: 1\n"


def test_nothing_written_down_makes_nothing(archive: ClassArchive) -> None:
    assert archive.options()
    jvm = Jvm()
    assert not archive.make(jvm)
    assert jvm.commands == []
    assert archive.options(), "the next session writes down what it loads"


def test_a_java_that_somebody_ended_is_asked_again(archive: ClassArchive) -> None:
    record(archive, 1, "a/A id: 1\n")

    def ended(command: Sequence[str], lock: int) -> bool:
        raise InterruptedError(f"{command[1]} was ended while it held {lock}")

    assert not archive.make(ended)
    assert not archive.refused.exists()
    assert archive.make(Jvm())


def test_sessions_start_without_one_where_the_cache_cannot_be_used(
    java: Java, jars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(cache: Path) -> ClassArchive:
        return ClassArchive.of(java, jars, {"RAYLAKE_CACHE": str(cache)})

    (tmp_path / "file").write_text("")
    assert of(tmp_path / "file").options() == ()
    assert not of(tmp_path / "file").make(Jvm())
    assert of(tmp_path / "with space").options() == ()
    assert of(tmp_path / "with:colon").options() == ()
    archive = of(tmp_path / "cache")
    record(archive, 1, "a/A id: 1\n")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert archive.options() == ()
    monkeypatch.undo()
    assert archive.make(Jvm())
    monkeypatch.setattr("os.access", lambda *_: False)
    assert archive.options(), "a finished one is used where the cache cannot be written"
    monkeypatch.setattr("os.getuid", lambda: archive.folder.stat().st_uid + 1)
    assert archive.options() == (), "what lies there is run: nobody else's"


class Loads(ManualClock):
    """A clock at whose ticks a JVM loads classes for a while."""

    def __init__(self, path: Path, ticks: int) -> None:
        super().__init__()
        self.path, self.left = path, ticks

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.left:
            self.left -= 1
            with self.path.open("a") as file:
                file.write(f"a/A{self.left} id: {self.left}\n")


def test_it_is_made_when_no_more_classes_come(
    archive: ClassArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Loads(record(archive, 1, "a/A id: 99\n"), 20)
    jvm = Jvm()
    monkeypatch.setattr("raylake.spark.classes._run", jvm)
    archive.make_when_settled(clock)
    assert len(archive.file.read_text().splitlines()) == 21
    assert clock.monotonic() >= 20 + SETTLED_S


def test_archives_that_nobody_starts_with_are_forgotten(
    archive: ClassArchive, java: Java, jars: list[Path], environ: dict[str, str]
) -> None:
    others = [ClassArchive.of(java, jars[:n], environ) for n in range(2)]
    for one in others:
        record(one, 1, "a/A id: 1\n")
        assert one.make(Jvm())
    unused = others[0].file.stat().st_mtime - 2 * KEPT_S
    os.utime(others[0].file, (unused, unused))
    record(archive, 1, "a/A id: 1\n")
    assert archive.make(Jvm())
    assert not others[0].folder.exists()
    assert others[1].file.exists()
