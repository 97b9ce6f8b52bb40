"""One round of upkeep: the plans of some tables carried out, next to whatever else happens there.

Files are written anew aside, several at a time, and put in place by a commit of each table's owner
(ADR 49). A job that fails, or that others came before, leaves its table as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from raylake import faults
from raylake.clock import Clock
from raylake.errors import RayLakeError
from raylake.maintenance.actions import Action
from raylake.maintenance.budget import Gate
from raylake.maintenance.lease import MaintenanceLease
from raylake.maintenance.outcomes import Ending, Outcome
from raylake.maintenance.plan import Plan, plan
from raylake.maintenance.price import Price
from raylake.maintenance.queue import Job, Queue
from raylake.maintenance.round_parts import (
    REWRITES,
    End,
    clean_log,
    jobs_of,
    named_anew,
    real_price,
    request_of,
    told_of,
)
from raylake.maintenance.subjects import Subject
from raylake.maintenance.writers import Writers
from raylake.storage.place import place
from raylake.tables.aside import Written
from raylake.tables.errors import TableError
from raylake.tables.rewrite_parts import delete_files
from raylake.tables.service import EngineChoice, TableService
from raylake.tables.upkeep_requests import PutInPlace

log = logging.getLogger(__name__)

_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Means:
    """By what a round is done.

    Attributes:
        service: What commits to a table, by its address.
        writers: Who writes files anew.
        gate: When the next piece of work may begin.
        clock: Time.
        name: Who does it, for others to read.
        wait_s: How long another maintainer is waited for, in seconds.
        stopping: Whether to begin nothing more.
        due: Whether an action is due now; the plan's others wait for their time.
        told: Called with each outcome.
        waiting: Called with the reason when the round gives way, and with nothing when it goes on.
        by_spark: Whether rewrites of a table that read so many bytes are Spark's.
    """

    service: Callable[[str], TableService]
    writers: Writers
    gate: Gate
    clock: Clock
    name: str
    wait_s: float = 0.0
    stopping: Callable[[], bool] = bool
    due: Callable[[Subject, Action], bool] = lambda _subject, _action: True
    told: Callable[[Outcome], None] = lambda _outcome: None
    waiting: Callable[[str], None] = lambda _reason: None
    by_spark: Callable[[Subject, int], bool] = lambda _subject, _nbytes: False


@dataclass(slots=True)
class Tended:
    """A table of a round.

    Attributes:
        subject: The table.
        plan: What is to be done.
        lease: That this one does it.
        jobs: Files that are written anew.
        others: What else is to be done.
    """

    subject: Subject
    plan: Plan
    lease: MaintenanceLease
    jobs: list[Job] = field(default_factory=list)
    others: list[Action] = field(default_factory=list)


class Round:
    """Carries out what is due, of all tables together.

    Args:
        means: By what.
    """

    def __init__(self, means: Means) -> None:
        self._means = means
        self._outcomes: list[Outcome] = []
        self._waited_s = 0.0
        self.failures: dict[str, RayLakeError] = {}
        """Tables that could not be looked after at all, and why."""
        self.plans: dict[str, Plan] = {}
        """What was planned of each table."""

    def run(self, subjects: Sequence[Subject]) -> list[Outcome]:
        """Do what is due of these tables; what goes wrong with one leaves the others alone."""
        tended: list[Tended] = []
        try:
            for subject in subjects:
                try:
                    if (one := self._begun(subject)) is not None:
                        tended.append(one)
                except RayLakeError as error:
                    self.failures[subject.name] = error
            self._rewrite(tended)
            for one in tended:
                for action in one.others:
                    if self._may_begin(tended):
                        self._apart(one, action)
        finally:
            for one in tended:
                one.lease.release()
        return self._outcomes

    def _begun(self, subject: Subject) -> Tended | None:
        """A table with something due, taken; planned again once it is."""
        means = self._means
        found = self._planned(subject)
        if not any(means.due(subject, one) for one in found.actions):
            return None
        lease = MaintenanceLease(place(subject.address), means.name, means.clock)
        lease.take(means.wait_s)
        with ExitStack() as failed:
            failed.callback(lease.release)
            if self._named(subject, found) or means.wait_s:
                found = self._planned(subject)
            one = self._divided(subject, found, lease)
            failed.pop_all()
        return one

    def _named(self, subject: Subject, found: Plan) -> bool:
        """Let the table name the columns of its Z-order among those with statistics, once."""
        due = (one.kind == "zorder" and self._means.due(subject, one) for one in found.actions)
        if not any(due) or (asked := named_anew(subject)) is None:
            return False
        try:
            self._means.service(subject.address).execute(subject.address, asked)
        except RayLakeError as error:
            log.warning("%s does not name %s: %s", subject.name, asked.properties, error)
            return False
        return True

    def _divided(self, subject: Subject, found: Plan, lease: MaintenanceLease) -> Tended:
        """What is due of a plan: what is written aside, and the rest."""
        actions = [one for one in found.actions if self._means.due(subject, one)]
        one = Tended(subject, found, lease)
        one.others = [each for each in actions if each.kind not in REWRITES]
        rewrites = [each for each in actions if each.kind in REWRITES]
        nbytes = sum(each.price.bytes_read for each in rewrites)
        if rewrites and self._means.by_spark(subject, nbytes):
            one.others = [*rewrites, *one.others]
        elif rewrites:
            one.jobs = list(jobs_of(subject, found, rewrites))
        return one

    def _planned(self, subject: Subject) -> Plan:
        found = plan(subject.address, subject.policy, at=subject.at, now_s=self._means.clock.now())
        self.plans[subject.name] = found
        return found

    def _rewrite(self, tended: Sequence[Tended]) -> None:
        means = self._means
        owner = {id(job): one for one in tended for job in one.jobs}
        jobs = [job for one in tended for job in one.jobs]
        queue = Queue(jobs, means.writers.slots)
        under_way: dict[int, Job] = {}
        number = 0
        while queue.waiting or queue.running:
            if means.stopping():
                queue.drop_waiting()
            reason = means.gate.closed() if queue.waiting else ""
            while not reason and (job := queue.next()) is not None:
                number += 1
                under_way[number] = job
                job.began_s = job.began_s or means.clock.monotonic()
                job.begun += 1
                means.writers.begin(number, job.pieces[job.begun - 1])
                reason = means.gate.closed() if queue.waiting else ""
            self._gives_way(reason, tended, sleep=not queue.running)
            for key, found in means.writers.ended(_POLL_S) if queue.running else ():
                job = under_way.pop(key)
                job.ended += 1
                if isinstance(found, Written):
                    job.written.append(found)
                    means.gate.spent(found.cpu_s)
                else:
                    job.failure = job.failure or found
                if job.complete:
                    self._put(owner[id(job)], job)
        self._gives_way("", tended, sleep=False)

    def _gives_way(self, reason: str, tended: Sequence[Tended], *, sleep: bool) -> None:
        for one in tended:
            one.lease.renew()
        self._means.waiting(reason)
        if reason and sleep:
            began_s = self._means.clock.monotonic()
            self._means.clock.sleep(_POLL_S)
            self._waited_s += self._means.clock.monotonic() - began_s

    def _may_begin(self, tended: Sequence[Tended]) -> bool:
        while not self._means.stopping():
            reason = self._means.gate.closed()
            self._gives_way(reason, tended, sleep=True)
            if not reason:
                return True
        return False

    def _put(self, one: Tended, job: Job) -> None:
        """Let the table's owner put in place what was written."""
        groups = tuple(group for written in job.written for group in written.groups)
        root, cpu_s = place(job.table), sum(written.cpu_s for written in job.written)
        if job.failure is not None or not groups:
            delete_files(root, groups)
            ending: Ending = "stopped" if job.failure is None else "failed"
            self._ended(one, job, End(ending, Price(cpu_s=cpu_s), note=told_of(job.failure)))
            return
        faults.reach("maintain.written", table=job.table)
        first = job.pieces[0]
        request = PutInPlace(groups, first.version, first.parameters)
        try:
            service = self._means.service(job.table)
            result = service.execute(job.table, request, engine="delta-rs")
        except RayLakeError as error:
            if isinstance(error, TableError) and error.table_changed is False:
                delete_files(root, groups)
            self._ended(one, job, End("failed", Price(cpu_s=cpu_s), note=told_of(error)))
            return
        faults.reach("maintain.committed", table=job.table)
        whole = sum(len(group.removed) for group in groups) == job.action.price.files_before
        ending = "nothing" if not result.changed else "done" if whole else "stopped"
        self._ended(
            one, job, End(ending, real_price(result, cpu_s), result.version_after, result.note)
        )

    def _apart(self, one: Tended, action: Action) -> None:
        """What needs no files aside: vacuum, checkpoint, clean-up of the log; and Spark's jobs."""
        began_cpu_s = time.process_time()
        job = Job(one.subject.address, action, (), began_s=self._means.clock.monotonic())
        try:
            if action.kind == "clean_log":
                found = clean_log(one.subject, self._means.clock.now())
            else:
                found = self._operation(one.subject, action)
        except RayLakeError as error:
            found = End("failed", Price(), note=told_of(error))
        cpu_s = time.process_time() - began_cpu_s
        self._means.gate.spent(cpu_s)
        self._ended(one, job, replace(found, real=replace(found.real, cpu_s=cpu_s)))

    def _operation(self, subject: Subject, action: Action) -> End:
        engine: EngineChoice = "spark" if action.kind in REWRITES else "auto"
        service = self._means.service(subject.address)
        result = service.execute(subject.address, request_of(subject, action), engine=engine)
        real, version = real_price(result, 0.0), result.version_after if result.changed else None
        if action.kind == "vacuum":
            freed = result.files.removed_bytes
            real = Price(bytes_freed=freed, files_before=result.files.removed)
        empty = action.kind == "vacuum" and not result.paths
        gone = action.kind in REWRITES and not result.changed
        return End("nothing" if empty or gone else "done", real, version, result.note)

    def _ended(self, one: Tended, job: Job, end: End) -> None:
        clock = self._means.clock
        found = Outcome(
            one.subject.name,
            one.subject.address,
            job.action,
            end.ending,
            end.real,
            end.version,
            clock.monotonic() - job.began_s,
            self._waited_s,
            end.note,
            clock.now(),
        )
        self._waited_s = 0.0
        self._outcomes.append(found)
        self._means.told(found)
