"""Folders that are being filled for a table that is not there yet: by one work at a time.

Who fills a folder says so in a file that only one can create
(``_raylake_unfinished.0001``). Whoever takes over from a work that has ended, or is ordered to,
creates the next number; the highest one counts. Files carry their work's id in their names, so that
each work deletes what it wrote and nothing else. What works before it wrote is deleted once the
table is there: until then one of them may still be the one that makes it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raylake.delta import log_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.log_commit import LogCommit, commit_first
from raylake.delta.log_store import files_of
from raylake.errors import DependencyUnreachable
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, create_whole, folders_of, names, prune
from raylake.tables.errors import FolderTaken, OutcomeUnread, TableExists
from raylake.tables.first_versions import is_first, may_be_made_by
from raylake.tables.space import ran_out

MARK: Final = "_raylake_unfinished"
"""Begins the names of the files that say who fills a folder: what is in it is nobody's yet."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Work:
    """Who fills folders.

    Attributes:
        what: In words: ``clone of …``.
        journal: Where it writes down how far it is; empty where it ends with its process.
        id: Tells it from every other work, and its files from theirs. Of a work that several
            processes go on with, one after another: ``<work>-<process>``.
        identity: Its process.
        since: When it began, ISO 8601.
    """

    what: str
    journal: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    identity: OwnerIdentity = field(
        default_factory=lambda: OwnerIdentity.of_this_process("", "tables")
    )
    since: str = field(
        default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    )

    @property
    def prefix(self) -> str:
        """What the names of its files begin with."""
        return f"part-{self.id}"

    @property
    def family(self) -> str:
        """The id that it has in common with the processes that began it or go on with it."""
        return self.id.partition("-")[0]

    def within(self, work_id: str) -> bool:
        """Whether it is this work, or one of its processes."""
        return f"{self.id}-".startswith(f"{work_id}-")

    @property
    def over(self) -> bool:
        """Whether it can certainly not go on by itself: its process is gone, and no journal is."""
        return not self.journal and self.identity.provably_dead()

    def __str__(self) -> str:
        where = f"pid {self.identity.pid} on {self.identity.host}"
        journal = f", journal {self.journal}" if self.journal else ""
        return f"{self.what} (work {self.id}, since {self.since}, {where}{journal})"

    def text(self) -> str:
        """What its mark holds."""
        return json.dumps(
            {
                "work": self.id,
                "what": self.what,
                "journal": self.journal,
                "since": self.since,
                "identity": self.identity.to_json(),
            }
        )


@dataclass(slots=True)
class Held:
    """A folder that a work holds.

    Attributes:
        root: The folder.
        work: Who holds it.
        name: What the names of its marks begin with.
        unsettled: Whether the table may appear later all the same: nothing is deleted then.
    """

    root: Place
    work: Work
    name: str = MARK
    unsettled: bool = False

    def require(self) -> None:
        """Refuse to go on where another work has taken over.

        Raises:
            FolderTaken: Naming it.
        """
        _, newest = _newest(self.root, self.name)
        if newest is None or newest.id != self.work.id:
            raise _taken(self.root, newest, "was taken over from this work")

    def settle(self) -> None:
        """It is done: take away what works before this one wrote, and all marks up to its own."""
        with contextlib.suppress(OSError):
            for mark, one in self._until_mine():
                if one is not None and one.family != self.work.family:
                    delete_files_of(self.root, one.id)
                with contextlib.suppress(OSError):
                    mark.unlink()

    def give_up(self) -> None:
        """Take its own marks away; another work before it that lives has the folder again."""
        for mark, one in self._until_mine():
            if one is not None and one.family == self.work.family:
                with contextlib.suppress(OSError):
                    mark.unlink()

    def marks(self) -> list[tuple[Place, Work | None]]:
        """The marks in the folder, the one that counts last, and whose they are."""
        paths = [_mark(self.root, self.name, one) for one in sorted(_numbers(self.root, self.name))]
        return [(one, _work_at(one)) for one in paths]

    def _until_mine(self) -> list[tuple[Place, Work | None]]:
        marks = self.marks()
        mine = [at for at, (_, one) in enumerate(marks) if one and one.within(self.work.id)]
        return marks[: mine[-1] + 1] if mine else []


def taken(root: Place, work: Work, *, name: str = MARK, take_over: bool = False) -> Held:
    """Take a folder for a work; what it holds already stays its own.

    Args:
        root: The folder.
        work: Who wants it.
        name: What the names of the marks begin with.
        take_over: Take it from another work, whatever that one does.

    Raises:
        FolderTaken: Another work has it; names it.
        OSError: It cannot be read or written.
    """
    holder: Work | None = None
    for _ in range(_TRIES):
        number, holder = _newest(root, name)
        if holder is not None and holder.id == work.id:
            return Held(root, work, name)
        if number and not (take_over or _gives_way(holder, work)):
            break
        if create_whole(_mark(root, name, number + 1), work.text()):
            return Held(root, work, name)
        # Somebody else was first, whose mark can be read now.
        take_over = False
    raise _taken(root, holder, "is being filled")


def gone_on(root: Place, work: Work) -> Held:
    """Go on with what another process of the same work filled a folder with.

    Raises:
        FolderTaken: Another work has taken over.
        OSError: It cannot be read or written.
    """
    _, holder = _newest(root, MARK)
    if holder is None or holder.family != work.family:
        raise _taken(root, holder, "was taken over from this work")
    return taken(root, work)


def refuse_filled(root: Place) -> None:
    """Refuse a folder that is being filled, or that a work left unfinished.

    Raises:
        FolderTaken: Naming the work.
    """
    number, holder = _newest(root, MARK)
    if number:
        raise _taken(root, holder, "is being filled")


def refuse_taken(root: Place, *, work: Work | None = None, take_over: bool = False) -> None:
    """Refuse an address where something lies, but for what an interrupted work left.

    Args:
        root: The address.
        work: Who asks: what is its own is not in its way.
        take_over: Whether another work is not, either.

    Raises:
        TableExists: Saying what.
        FolderTaken: Another work fills it; names it.
    """
    if log_files.commit_versions(root) or log_files.checkpoint_versions(root):
        raise TableExists(f"{root} holds a Delta table already", hint="choose another address")
    number, holder = _newest(root, MARK)
    if number and not (take_over or _gives_way(holder, work)):
        raise _taken(root, holder, "is being filled")
    if not number:
        _refuse_strangers(root, [])


@contextlib.contextmanager
def filling(
    root: Place, work: Work, *, keep_mark: bool = False, take_over: bool = False
) -> Iterator[Held]:
    """A folder that is being filled for a table that is not there yet; as before after an error.

    Args:
        root: The folder.
        work: Who fills it; its files have its ``prefix``.
        keep_mark: Whether what is in it stays nobody's after the block.
        take_over: Take the folder from another work, whatever that one does.

    Raises:
        TableExists: Another work made a table there since the address was looked at.
        FolderTaken: Another work fills it.
        DependencyUnreachable: A file could not be read or written.
    """
    refuse_taken(root, work=work, take_over=take_over)
    with _reached(root):
        there = folders_of(root)
        held = taken(root, work, take_over=take_over)
    complete = False
    try:
        with _reached(root):
            works = [one for _, one in held.marks() if one is not None]
            for one in works:
                if one.family == work.family:
                    delete_files_of(root, one.id)
            _refuse_strangers(root, works)
            yield held
        complete = True
        if not keep_mark:
            held.settle()
    finally:
        if not complete and not held.unsettled and not may_be_made_by(root, work.id):
            delete_files_of(root, work.id)
            held.give_up()
            prune(root, there)


def first_commit(root: Place, commit: LogCommit, held: Held | None = None) -> None:
    """Make the table.

    Args:
        root: The table.
        commit: Its first commit.
        held: Who filled it.

    Raises:
        TableExists: Another one was made meanwhile.
        FolderTaken: Another work has taken over.
        DependencyUnreachable: The log entry could not be written.
    """
    if held is not None:
        held.require()
    try:
        commit_first(root, commit)
    except OSError as error:
        try:
            if is_first(root, commit):
                return
        except OutcomeUnread:
            if held is not None:
                held.unsettled = True
            raise
        if isinstance(error, FileExistsError):
            raise TableExists(f"{root} holds a Delta table already") from error
        if held is not None:
            # A store may still apply a request that it did not answer.
            held.unsettled = isinstance(root, StorePath)
        raise ran_out(error, root, f"{root}") or DependencyUnreachable(
            f"{root}: the table could not be made: {error}", hint="look whether it is there"
        ) from error


def delete_files_of(root: Place, work_id: str) -> None:
    """Delete what a work wrote into a folder, as far as it can be, and nothing else."""
    begins = f"part-{work_id}-"
    for path in _tree(root):
        if path.rpartition("/")[2].startswith(begins):
            with contextlib.suppress(OSError):
                (root / path).unlink()


def _gives_way(holder: Work | None, work: Work | None) -> bool:
    """Whether who holds a folder is in a work's way no more: it is over, or the same work."""
    if holder is None:
        return False
    return holder.over or (work is not None and holder.family == work.family)


def _refuse_strangers(root: Place, works: Sequence[Work]) -> None:
    ours = (MARK, *(f"{one.prefix}-" for one in works))
    there = [one for one in _tree(root) if not one.rpartition("/")[2].startswith(ours)]
    if there:
        raise TableExists(
            f"{root} holds {len(there)} files that are of no table, such as {there[0]}",
            hint="choose another one",
        )


def _tree(root: Place) -> list[str]:
    try:
        return sorted(files_of(str(root)).tree(""))
    except FileNotFoundError:
        return []


def _mark(root: Place, name: str, number: int) -> Place:
    return root / f"{name}.{number:04d}"


def _numbers(root: Place, name: str) -> list[int]:
    numbered = re.compile(re.escape(name) + r"\.(\d{4})")
    try:
        found = [numbered.fullmatch(one) for one in names(root)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(one[1]) for one in found if one is not None]


def _newest(root: Place, name: str) -> tuple[int, Work | None]:
    """The highest number, 0 for none, and whose it is; None where that cannot be told."""
    number = max(_numbers(root, name), default=0)
    return number, _work_at(_mark(root, name, number)) if number else None


def _work_at(path: Place) -> Work | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return Work(
            str(found["what"]),
            str(found["journal"]),
            str(found["work"]),
            OwnerIdentity.from_json(found["identity"]),
            str(found["since"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _taken(root: Place, holder: Work | None, what: str) -> FolderTaken:
    by = "another work" if holder is None else str(holder)
    hint = "wait for it; take_over (--take-over) takes the folder from a work that has ended"
    if holder is not None and holder.journal:
        hint = (
            f"go on with it or roll it back (`raylake table migrate --journal {holder.journal}`); "
            "take_over (--take-over) takes the folder from it"
        )
    return FolderTaken(
        f"{root} {what}: {by}",
        hint=hint,
        path=str(root),
        work="" if holder is None else holder.family,
        journal="" if holder is None else holder.journal,
    )


@contextlib.contextmanager
def _reached(root: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ran_out(error, root, f"{root}") or DependencyUnreachable(
            f"{root}: a file could not be copied: {error}", hint="nothing was made; try again"
        ) from error
