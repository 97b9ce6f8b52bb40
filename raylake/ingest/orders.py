"""Orders to a running pipeline, through the lake: files that its supervisor takes and answers.

Whoever may write the lake may give orders; no port, no token, and it works wherever the status
document can be read. An order is carried out at most once, and not at all after its time is over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from raylake import errors
from raylake.clock import Clock, Deadline
from raylake.errors import RayLakeError, Refused, Terminal
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, names, write_whole

log = logging.getLogger(__name__)

FORMAT: Final = 1
POLL_S = 0.1
STORE_POLL_S = 2.0
KEEP_ANSWERS_S = 60.0
MAX_ORDER_BYTES = 65_536
_KINDS: Final = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RayLakeError)
}


@dataclass(frozen=True, slots=True)
class Order:
    """One order.

    Attributes:
        order_id: Names its files.
        name: What to do, such as ``breaker.trip``.
        arguments: Plain data.
    """

    order_id: str
    name: str
    arguments: Mapping[str, Any]


class OrderBox:
    """The orders of one pipeline, from both sides.

    Args:
        folder: From :func:`order_folder`.
        clock: Time.
    """

    def __init__(self, folder: Place, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._trouble = ""
        self._next_look_s = 0.0

    def take(self) -> list[Order]:
        """The orders that arrived, oldest first; each is given out once. Never raises."""
        found: list[Order] = []
        if not self._due():
            return found
        try:
            for path in sorted(self._files(".order"), key=lambda p: p.stat().st_mtime):
                order = self._taken(path)
                if order is not None:
                    found.append(order)
            self._sweep()
        except FileNotFoundError:
            return found  # Taken back meanwhile; the rest is taken next time.
        except OSError as error:
            # Asked several times a second: said once.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("orders cannot be taken: %s", error)
        return found

    def answer(self, order: Order, result: Mapping[str, Any] | RayLakeError) -> None:
        """Tell who gave the order what came of it."""
        if isinstance(result, RayLakeError):
            said: dict[str, Any] = {"error": result.to_dict()}
        else:
            said = {"result": dict(result)}
        try:
            _write(self._path(order.order_id, "answer"), said)
        except OSError as error:
            log.warning("order %s cannot be answered: %s", order.order_id, error)

    def ask(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            RayLakeError: Why it was not carried out, as the supervisor said it.
            Refused: The lake cannot be written.
            Terminal: Nobody answered in time; it will not be carried out later.
        """
        order_id = secrets.token_hex(8)
        order, answer = self._path(order_id, "order"), self._path(order_id, "answer")
        until = self._clock.now() + timeout_s
        try:
            _write(order, {"name": name, "arguments": dict(arguments), "until": until})
        except OSError as error:
            raise Refused(
                f"the order cannot be left in the lake: {error}", hint="may this user write there?"
            ) from error
        deadline = Deadline.after(timeout_s, self._clock)
        try:
            while True:
                # Looked at before the clock: an answer that came late counts.
                expired = deadline.expired()
                said = _read(answer)
                if said is not None:
                    break
                if expired:
                    raise _silent(order.exists(), timeout_s)
                self._clock.sleep(STORE_POLL_S / 4 if isinstance(order, StorePath) else POLL_S)
        finally:
            for path in (order, answer):
                path.unlink(missing_ok=True)
        if "error" in said:
            raise _error(said["error"])
        result: dict[str, Any] = said["result"]
        return result

    def _due(self) -> bool:
        """Whether to look now: each look costs a request in a store."""
        if isinstance(self._folder, StorePath):
            now_s = self._clock.monotonic()
            if now_s < self._next_look_s:
                return False
            self._next_look_s = now_s + STORE_POLL_S
        return True

    def _files(self, suffix: str) -> list[Place]:
        try:
            found = names(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        # Scratch files of a disk begin with a dot.
        return [self._folder / n for n in found if n.endswith(suffix) and n[0] != "."]

    def _taken(self, path: Place) -> Order | None:
        said = _read(path)
        try:
            path.unlink()
        except FileNotFoundError:
            return None  # Taken back.
        said = said or {}
        until, arguments = said.get("until"), said.get("arguments")
        if (
            not isinstance(until, int | float)
            or not isinstance(arguments, dict)
            or until < self._clock.now()
        ):
            log.warning("order %s is too late or unreadable and is left out", path.stem)
            return None
        return Order(path.stem, str(said.get("name")), arguments)

    def _sweep(self) -> None:
        """Remove answers that nobody waited for."""
        for path in self._files(".answer"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < self._clock.now() - KEEP_ANSWERS_S:
                    path.unlink()

    def _path(self, order_id: str, kind: str) -> Place:
        return self._folder / f"{order_id}.{kind}"


def order_folder(status_file: Place) -> Place:
    """Where the orders of a pipeline lie: ``<lake>/_raylake/orders/<pipeline>``."""
    return status_file.parent.parent / "orders" / status_file.name.removesuffix(".json")


def _write(path: Place, document: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    write_whole(path, json.dumps({"format": FORMAT, **document}, default=str))


def _read(path: Place) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            return None
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    right = isinstance(document, dict) and document.get("format") == FORMAT
    return document if right else None


def _error(said: Mapping[str, Any]) -> RayLakeError:
    kind = _KINDS.get(str(said.get("code")), Terminal)
    return kind(str(said.get("message")), hint=str(said.get("hint") or ""))


def _silent(untaken: bool, timeout_s: float) -> Terminal:
    if untaken:
        return Terminal(
            f"the run did not take the order within {timeout_s:g} s; it is taken back",
            hint="`raylake status` shows whether it lives; it takes none while it starts or ends",
        )
    return Terminal(
        f"the run took the order and has not said within {timeout_s:g} s what came of it",
        hint="`raylake status` and `raylake logs` show it",
    )
