"""Orders to a running pipeline, through the lake: files that its supervisor takes and answers.

Whoever may write the lake may give orders; no port, no token, and it works wherever the status
document can be read. An order is carried out at most once, and not at all after its time is over.

Who takes an order, or takes it back, first creates its claim, which only one can: to delete a file
says nothing in a store, where a second deletion succeeds as the first. The order goes before its
claim does, so a claim that is created late finds no order; the answer goes after its claim, so a
claim without one was not answered. A run that ends between its claim and its answer leaves the
order undone or done: nobody repeats it, and the next run says so.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from raylake import errors
from raylake.clock import Clock, Deadline
from raylake.errors import OutcomeUnknown, RayLakeError, Refused, Terminal
from raylake.ingest.order_files import (
    KEEP_ANSWERS_S,
    OrderFiles,
    answer_at,
    read,
    remove,
    write,
)
from raylake.storage.objects import BucketMissing, StoreDenied, StorePath
from raylake.storage.place import Place

log = logging.getLogger(__name__)

POLL_S = 0.1
STORE_POLL_S = 2.0
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
        self._files = OrderFiles(folder, clock)
        self._clock = clock
        self._who = who
        self._troubles: set[str] = set()
        self._told: set[str] = set()
        self._next_look_s = 0.0
        self._given: set[str] = set()
        self._unfinished: list[OutcomeUnknown] = []

    def take(self) -> list[Order]:
        """The orders that arrived, oldest first; each is given out once. Never raises."""
        found: list[Order] = []
        there: list[str] = []
        if not self._due():
            return found
        with self._apart():
            there = self._files.names()
        for path in self._oldest_first(there):
            with self._apart():
                order = self._taken(path)
                if order is not None:
                    found.append(order)
        self._sweep(there)
        # Asked several times a second: said once.
        for trouble in sorted(self._troubles - self._told):
            log.warning("orders cannot be taken: %s", trouble)
        self._told, self._troubles = self._troubles, set()
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
            write(self._files.path(order.order_id, "answer"), said)
        except OSError as error:
            log.warning("order %s cannot be answered: %s", order.order_id, error)

    def ask(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            RayLakeError: Why it was not carried out, as the supervisor said it.
            Refused: The lake cannot be written.
            Terminal: Nobody answered in time; it will not be carried out later.
            OutcomeUnknown: The lake does not say whether somebody took it.
        """
        order_id = secrets.token_hex(8)
        deadline = Deadline.after(timeout_s, self._clock)
        over: list[Place] = []
        try:
            document = {"name": name, "arguments": dict(arguments)}
            try:
                write(
                    self._files.path(order_id, "order"),
                    {**document, "until": self._clock.now() + timeout_s},
                )
            except OSError as error:
                raise self._unwritten(order_id, name, error, over) from error
            said = self._awaited(order_id, deadline)
            if said is None:
                raise self._silent(order_id, name, timeout_s, over)
            over += [self._files.path(order_id, kind) for kind in ("order", "claim", "answer")]
        finally:
            if not over:
                # Interrupted: as where nobody answered.
                self._silent(order_id, name, timeout_s, over)
            # What stays is removed by a run, in this order too.
            with contextlib.suppress(OSError):
                for path in over:
                    path.unlink(missing_ok=True)
        if "error" in said:
            raise _error(said["error"])
        result: dict[str, Any] = said["result"]
        return result

    def _due(self) -> bool:
        """Whether to look now: each look costs a request in a store."""
        if isinstance(self._files.folder, StorePath):
            now_s = self._clock.monotonic()
            if now_s < self._next_look_s:
                return False
            self._next_look_s = now_s + STORE_POLL_S
        return True

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """What fails at one file keeps no other one from its turn."""
        try:
            yield
        except FileNotFoundError:
            return  # Taken back or removed meanwhile.
        except OSError as error:
            self._troubles.add(str(error))

    def _oldest_first(self, there: Collection[str]) -> list[Place]:
        found: list[tuple[float, Place]] = []
        for name in there:
            if name.endswith(".order"):
                with self._apart():
                    path = self._files.folder / name
                    found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, key=lambda one: one[0])]

    def _awaited(self, order_id: str, deadline: Deadline) -> dict[str, Any] | None:
        """The answer to an order; None when there is none in time."""
        answer = self._files.path(order_id, "answer")
        while True:
            # Looked at before the clock: an answer that came late counts.
            expired = deadline.expired()
            said = answer_at(answer)
            if said is not None or expired:
                return said
            self._clock.sleep(STORE_POLL_S / 4 if isinstance(answer, StorePath) else POLL_S)

    def _taken(self, path: Place) -> Order | None:
        said = {} if path.stem in self._given else self._files.order_at(path)
        if said is None:
            return None  # Taken back.
        until, arguments = said.get("until"), said.get("arguments")
        if (
            not isinstance(until, int | float)
            or not isinstance(arguments, dict)
            or until < self._clock.now()
        ):
            remove(path)
            if path.stem not in self._given:
                log.warning("order %s is too late or unreadable and is left out", path.stem)
            self._given.discard(path.stem)
            return None
        order = Order(path.stem, str(said.get("name")), arguments)
        if self._files.claimed(order.order_id, order.name, self._who) is not None:
            return None
        try:
            path.stat()
        except FileNotFoundError:
            # Whoever had it has done with it, claim and all, between the two looks.
            self._files.path(order.order_id, "claim").unlink(missing_ok=True)
            return None
        self._given.add(order.order_id)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            self._given.discard(order.order_id)
        return order

    def _unwritten(
        self, order_id: str, name: str, error: OSError, over: list[Place]
    ) -> RayLakeError:
        """Why an order could not be left, or that it may have been: answers can be lost."""
        order = self._files.path(order_id, "order")
        # Not the claim: a put that lands later finds it, until a run removes both.
        over.append(order)
        refused = Refused(
            f"the order cannot be left in the lake: {error}", hint="may this user write there?"
        )
        if not isinstance(order, StorePath) or isinstance(error, StoreDenied | BucketMissing):
            return refused
        try:
            stands = self._files.claimed(order_id, name, "")
        except OSError:
            return _unknown(error)
        if stands is None:
            return refused
        return OutcomeUnknown(
            f"{_whose(stands)} although the lake did not say that it is there: {error}",
            hint="`raylake status` and `raylake logs` show it; nobody carries it out again",
        )

    def _silent(
        self, order_id: str, name: str, timeout_s: float, over: list[Place]
    ) -> RayLakeError:
        """Take an order back, or say who has it; ``over`` gets what is to be removed, in order."""
        over.append(self._files.path(order_id, "order"))
        try:
            stands = self._files.claimed(order_id, name, "")
        except OSError as error:
            return _unknown(error)
        if stands is not None:
            # Its answer may come now, and is removed after the claim.
            return Terminal(
                f"{_whose(stands)} and has not said within {timeout_s:g} s what came of it",
                hint="`raylake status` and `raylake logs` show it; nobody carries it out again",
            )
        over.append(self._files.path(order_id, "claim"))
        return Terminal(
            f"the run did not take the order within {timeout_s:g} s; it is taken back",
            hint="`raylake status` shows whether it lives; it takes none while it starts or ends",
        )

    def _sweep(self, there: Collection[str]) -> None:
        """Remove claims, and say which got no answer; then answers that nobody waited for."""
        for name in there:
            path = self._files.folder / name
            if name.endswith(".claim"):
                with self._apart():
                    if not self._files.kept(path):
                        self._give_up(path)
        for name in there:
            path = self._files.folder / name
            if name.endswith(".answer"):
                with self._apart():
                    if (
                        not self._files.kept(path)
                        and not self._files.path(path.stem, "claim").exists()
                    ):
                        path.unlink()

    def _give_up(self, claim: Place) -> None:
        # Before its claim: an order without one could be taken.
        self._files.path(claim.stem, "order").unlink(missing_ok=True)
        said = read(claim)
        answered = self._files.path(claim.stem, "answer").exists()
        claim.unlink()
        if said is None or said.get("by") == "" or answered:
            return
        lost = OutcomeUnknown(
            f"order {claim.stem} ({said.get('name')}) is unfinished: {_whose(said)} and has not "
            f"answered within {KEEP_ANSWERS_S:g} s; it may have been carried out, and is not "
            "repeated",
            hint="`raylake status` shows breakers and watermarks; give the order again if need be",
        )
        log.warning("%s", lost)
        self._unfinished.append(lost)


def order_folder(status_file: Place) -> Place:
    """Where the orders of a pipeline lie: ``<lake>/_raylake/orders/<pipeline>``."""
    return status_file.parent.parent / "orders" / status_file.name.removesuffix(".json")


def _unknown(error: OSError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the lake does not answer, so the order may have been taken: {error}",
        hint="`raylake status` shows what the run does once the lake answers",
    )


def _whose(claim: Mapping[str, Any]) -> str:
    at_s = claim.get("at")
    since = f" at {datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC" if at_s else ""
    return f"{claim.get('by', 'the run')} took the order{since}"


def _error(said: Mapping[str, Any]) -> RayLakeError:
    kind = _KINDS.get(str(said.get("code")), Terminal)
    return kind(str(said.get("message")), hint=str(said.get("hint") or ""))
