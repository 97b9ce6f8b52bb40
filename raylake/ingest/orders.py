"""Orders to a running pipeline, through the lake: files that its supervisor takes and answers.

Whoever may write the lake may give orders; no port, no token, and it works wherever the status
document can be read. An order is carried out at most once, and not at all after its time is over.

Who takes an order, or takes it back, first creates its claim, which only one can: to delete a file
says nothing in a store, where a second deletion succeeds as the first. The order goes before its
claim does, so a claim that is created late finds no order. A run that ends between its claim and
its answer leaves the order undone or done: nobody repeats it, and the next run says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from raylake import errors
from raylake.clock import Clock, Deadline
from raylake.errors import OutcomeUnknown, RayLakeError, Refused, Terminal
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
        who: Who takes orders here, such as ``run 0198``; said where one stays unfinished.
    """

    def __init__(self, folder: Place, clock: Clock, who: str = "a run") -> None:
        self._folder = folder
        self._clock = clock
        self._who = who
        self._mark = secrets.token_hex(8)
        self._trouble = ""
        self._next_look_s = 0.0
        self._given: set[str] = set()
        self._unfinished: list[OutcomeUnknown] = []

    def take(self) -> list[Order]:
        """The orders that arrived, oldest first; each is given out once. Never raises."""
        found: list[Order] = []
        if not self._due():
            return found
        try:
            there = self._there()
            orders = [self._folder / name for name in there if name.endswith(".order")]
            for path in sorted(orders, key=lambda p: p.stat().st_mtime):
                order = self._taken(path)
                if order is not None:
                    found.append(order)
            self._sweep(there)
        except FileNotFoundError:
            return found  # Taken back meanwhile; the rest is taken next time.
        except OSError as error:
            # Asked several times a second: said once.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("orders cannot be taken: %s", error)
        return found

    def unfinished(self) -> list[OutcomeUnknown]:
        """Orders that somebody took and did not answer, found since the last call.

        They may have been carried out or not, and nobody will do it again.
        """
        found, self._unfinished = self._unfinished, []
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
        deadline = Deadline.after(timeout_s, self._clock)
        over = [order, answer]
        try:
            try:
                _write(order, {"name": name, "arguments": dict(arguments), "until": until})
            except OSError as error:
                raise Refused(
                    f"the order cannot be left in the lake: {error}",
                    hint="may this user write there?",
                ) from error
            while True:
                # Looked at before the clock: an answer that came late counts.
                expired = deadline.expired()
                said = _answer_at(answer)
                if said is not None:
                    over.append(self._path(order_id, "claim"))
                    break
                if expired:
                    raise self._silent(order_id, name, timeout_s, over)
                self._clock.sleep(STORE_POLL_S / 4 if isinstance(order, StorePath) else POLL_S)
        finally:
            for path in over:
                # What stays is removed by a run: an order once it is too late.
                with contextlib.suppress(OSError):
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

    def _there(self) -> list[str]:
        try:
            found = names(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        # Scratch files of a disk begin with a dot.
        return [name for name in found if name[0] != "."]

    def _taken(self, path: Place) -> Order | None:
        said = {} if path.stem in self._given else _read(path)
        if said is None:
            return None  # Taken back.
        until, arguments = said.get("until"), said.get("arguments")
        if (
            not isinstance(until, int | float)
            or not isinstance(arguments, dict)
            or until < self._clock.now()
        ):
            if path.stem not in self._given:
                log.warning("order %s is too late or unreadable and is left out", path.stem)
            path.unlink(missing_ok=True)
            self._given.discard(path.stem)
            return None
        order = Order(path.stem, str(said.get("name")), arguments)
        if self._claimed(order.order_id, order.name, self._who) is not None:
            return None
        try:
            path.stat()
        except FileNotFoundError:
            # Whoever had it has done with it, claim and all, between the two looks.
            self._path(order.order_id, "claim").unlink(missing_ok=True)
            return None
        self._given.add(order.order_id)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            self._given.discard(order.order_id)
        return order

    def _claimed(self, order_id: str, name: str, who: str) -> dict[str, Any] | None:
        """Claim an order; None when it is this box's now, else the claim that stands."""
        path = self._path(order_id, "claim")
        claim = {"by": who, "at": self._clock.now(), "name": name, "mark": self._mark}
        try:
            _create(path, claim)
        except FileExistsError:
            # In a store it may be our own, put by a request whose answer was lost.
            stands = _read(path) or {}
            ours = (stands.get("mark"), stands.get("by")) == (self._mark, who)
            return None if ours else stands
        return None

    def _silent(
        self, order_id: str, name: str, timeout_s: float, over: list[Place]
    ) -> RayLakeError:
        """Take an order back, or say who has it."""
        try:
            stands = self._claimed(order_id, name, "")
        except OSError as error:
            return OutcomeUnknown(
                f"the lake does not answer, so the order may have been taken: {error}",
                hint="`raylake status` shows what the run does once the lake answers",
            )
        if stands is not None:
            return Terminal(
                f"{_whose(stands)} and has not said within {timeout_s:g} s what came of it",
                hint="`raylake status` and `raylake logs` show it; nobody carries it out again",
            )
        over.append(self._path(order_id, "claim"))
        return Terminal(
            f"the run did not take the order within {timeout_s:g} s; it is taken back",
            hint="`raylake status` shows whether it lives; it takes none while it starts or ends",
        )

    def _sweep(self, there: Collection[str]) -> None:
        """Remove answers that nobody waited for, and claims; say which got no answer."""
        for name in there:
            path = self._folder / name
            if not name.endswith((".answer", ".claim")):
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime >= self._clock.now() - KEEP_ANSWERS_S:
                    continue
                if name.endswith(".claim"):
                    self._give_up(path)
                path.unlink()

    def _give_up(self, claim: Place) -> None:
        # Before its claim: an order without one could be taken.
        self._path(claim.stem, "order").unlink(missing_ok=True)
        said = _read(claim) or {}
        if said.get("by") == "" or self._path(claim.stem, "answer").exists():
            return
        lost = OutcomeUnknown(
            f"order {claim.stem} ({said.get('name')}) is unfinished: {_whose(said)} and ended "
            "before it answered; it may have been carried out, and is not repeated",
            hint="`raylake status` shows breakers and watermarks; give the order again if need be",
        )
        log.warning("%s", lost)
        self._unfinished.append(lost)

    def _path(self, order_id: str, kind: str) -> Place:
        return self._folder / f"{order_id}.{kind}"


def order_folder(status_file: Place) -> Place:
    """Where the orders of a pipeline lie: ``<lake>/_raylake/orders/<pipeline>``."""
    return status_file.parent.parent / "orders" / status_file.name.removesuffix(".json")


def _write(path: Place, document: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    write_whole(path, json.dumps({"format": FORMAT, **document}, default=str))


def _create(path: Place, document: Mapping[str, Any]) -> None:
    """Write a file where none is; only one can."""
    text = json.dumps({"format": FORMAT, **document})
    if isinstance(path, StorePath):
        path.create(text.encode())
        return
    make_folder(path.parent)
    with path.open("x") as file:
        file.write(text)


def _read(path: Place) -> dict[str, Any] | None:
    """A document; empty for what is none, None where there is no file."""
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            return {}
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    right = isinstance(document, dict) and document.get("format") == FORMAT
    return document if right else {}


def _answer_at(path: Place) -> dict[str, Any] | None:
    """The answer, when there is one and it can be read now."""
    try:
        return _read(path) or None
    except OSError:
        return None


def _whose(claim: Mapping[str, Any]) -> str:
    at_s = claim.get("at")
    since = f" at {datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC" if at_s else ""
    return f"{claim.get('by', 'the run')} took the order{since}"


def _error(said: Mapping[str, Any]) -> RayLakeError:
    kind = _KINDS.get(str(said.get("code")), Terminal)
    return kind(str(said.get("message")), hint=str(said.get("hint") or ""))
