"""Objects of a store, with the few operations of a path that the lake needs.

Failures are ``OSError``, as on a disk: ``FileNotFoundError``, ``FileExistsError``,
``PermissionError``, and :class:`StoreError` for what may pass (503, time-outs, no connection).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import obstore
import pyarrow as pa
from obstore import exceptions

from raylake.storage.access import reached

PART_BYTES: Final = 16 * 2**20
_STATUS: Final = re.compile(r"status code: (\d{3})([^:\n]*)")
_EXPIRED: Final = 400
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_TEXT: Final = re.compile(r"<Message>([^<]{1,300})</Message>")


class StoreError(OSError):
    """A request to a store failed.

    Attributes:
        status: The answer's HTTP status; 0 when there was none.
        code: The store's own name of the error, such as ``NoSuchBucket``; may be empty.
    """

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.status, self.code))


class StoreDenied(StoreError, PermissionError):
    """The store does not know the key, or the key may not do this."""


class BucketMissing(StoreError):
    """There is no such bucket."""


class PutConflict(StoreError):
    """409: another request was under way; nothing was put, the put may be made again."""


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store tells of an object.

    Attributes:
        st_size: Bytes.
        st_mtime: When it was put, seconds since the epoch, by the store's clock.
        e_tag: Changes with the content.
    """

    st_size: int
    st_mtime: float
    e_tag: str

    @property
    def st_mtime_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.st_mtime * 1e9)


Answer = TypeVar("Answer")
Within = Callable[["StorePath"], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """An address in an object store; nothing is asked of the store until it is used.

    Attributes:
        address: Normalised, ``scheme://bucket/key``.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, below: str) -> StorePath:
        return StorePath(f"{self.address}/{below}")

    @property
    def key(self) -> str:
        """The address within the bucket."""
        return self.address.partition("://")[2].partition("/")[2]

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> StorePath:
        """What it lies in; the bucket itself for what is directly in it."""
        return StorePath(self.address.rpartition("/")[0]) if self.key else self

    def stat(self) -> ObjectStat:
        """Size, time and tag; raises ``FileNotFoundError`` where there is no object."""
        found = _ask(self, lambda client: obstore.head(client, self.key))
        return ObjectStat(
            int(found["size"]), found["last_modified"].timestamp(), found["e_tag"] or ""
        )

    def exists(self) -> bool:
        """Whether an object has this address, or lies below it."""
        try:
            self.stat()
        except FileNotFoundError:
            return any(True for _ in self._listed(recursive=True))
        return True

    def names(self) -> dict[str, int]:
        """Names of the objects directly below, with their sizes in bytes; empty for none."""
        return dict(self._listed(recursive=False))

    def tree(self) -> dict[str, int]:
        """Addresses, relative to this one, of all objects below, with their sizes in bytes."""
        return dict(self._listed(recursive=True))

    def folders(self) -> list[str]:
        """Names directly below that have something below them, sorted."""
        found = self._level()
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    def _level(self) -> Any:
        return _ask(self, lambda client: obstore.list_with_delimiter(client, self.key or None))

    def _listed(self, *, recursive: bool) -> Iterator[tuple[str, int]]:
        cut = len(self.key) + 1 if self.key else 0
        if not recursive:
            yield from ((o["path"][cut:], int(o["size"])) for o in self._level()["objects"])
            return
        batch, others = _ask(self, self._first_batch)
        while batch is not None:
            yield from ((o["path"][cut:], int(o["size"])) for o in batch)
            with _errors(self):
                batch = next(others, None)

    def _first_batch(self, client: Any) -> tuple[Any, Iterator[Any]]:
        batches: Iterator[Any] = iter(obstore.list(client, self.key or None))
        return next(batches, None), batches

    def read_bytes(self) -> bytes:
        """The whole object."""
        return _ask(self, lambda client: bytes(obstore.get(client, self.key).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding)

    def open_input(self, within: Within = nullcontext) -> pa.NativeFile:
        """The object for random access; each read is a request.

        Args:
            within: Entered around each of them, with this path; may raise otherwise.
        """
        with within(self):
            reader = _ask(self, lambda client: obstore.open_reader(client, self.key))
        return pa.PythonFile(_Reader(reader, self, within), mode="r")

    def put(self, data: bytes) -> None:
        """Put an object, whole or not at all, in place of one that is there."""
        _ask(self, lambda client: obstore.put(client, self.key, data, chunk_size=PART_BYTES))

    def create(self, data: bytes) -> None:
        """Put an object where none is, in one step.

        Raises:
            FileExistsError: There is one, which may be this very call's: an answer can be lost
                after the put landed. Who must know reads it.
            PutConflict: Nothing was put; another request was under way.
        """
        try:
            # A refused one put nothing: it may be made again with other keys.
            _ask(
                self,
                lambda client: obstore.put(
                    client, self.key, data, mode="create", use_multipart=False
                ),
            )
        except FileExistsError:
            # The client says the same of 409, which S3 answers also where nothing is put.
            try:
                self.stat()
            except FileNotFoundError:
                raise PutConflict(f"{self}: 409: another request was under way", 409) from None
            raise

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete the object; one that is not there is none the less gone."""
        del missing_ok
        _ask(self, lambda client: obstore.delete(client, self.key))

    def delete_tree(self) -> None:
        """Delete all objects below."""
        for below in self.tree():
            (self / below).unlink()


class _Reader:
    """A reader of the client as a Python file whose failures are ``OSError``."""

    def __init__(self, reader: Any, path: StorePath, within: Within) -> None:
        self._reader = reader
        self._path = path
        self._within = within
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        with self._within(self._path), _errors(self._path):
            data = self._reader.read() if size < 0 else self._reader.read(size)
        return bytes(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self._reader.close()
        self.closed = True


def _ask(path: StorePath, question: Callable[[Any], Answer]) -> Answer:
    """Ask the store; once more where it refused and its keys have been changed since."""
    before = reached(path.address)
    try:
        with _errors(path):
            return question(before.client)
    except StoreError as error:
        # An answer to HEAD has no body that would say whether 400 means an expired token.
        if not isinstance(error, StoreDenied) and error.status != _EXPIRED:
            raise
        after = reached(path.address, refused=True)
        if after is before:
            raise
    with _errors(path):
        return question(after.client)


@contextmanager
def _errors(path: StorePath) -> Iterator[None]:
    try:
        yield
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(f"{path}: {_said(error)}") from None
    except (exceptions.BaseError, OSError) as error:
        raise _kind(path, error) from None


def _kind(path: StorePath, error: Exception) -> OSError:
    text = str(error)
    status = _STATUS.search(text)
    number = int(status[1]) if status else 0
    code = (_CODE.search(text) or ("", ""))[1]
    message = f"{path}: {_said(error)}"
    if code == "NoSuchBucket":
        return BucketMissing(message, number, code)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(message)
    if number in (401, 403):
        return StoreDenied(message, number, code)
    return StoreError(message, number, code)


def _said(error: Exception) -> str:
    """What went wrong in one line: status, the store's own word, or the client's."""
    text = str(error)
    status, code, message = _STATUS.search(text), _CODE.search(text), _TEXT.search(text)
    if status:
        parts = [f"{status[1]}{status[2]}".strip(), code and code[1], message and message[1]]
        return ", ".join(part for part in parts if part)
    return text.split("\n", maxsplit=1)[0]
