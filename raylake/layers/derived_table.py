"""One derived table: made when its source is there, then brought up to date step by step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.tables_there import is_table
from raylake.delta.txn_listing import list_txns
from raylake.errors import NotOurTable
from raylake.layers import source_changes
from raylake.layers.aggregates import Aggregates
from raylake.layers.asked_of_logs import (
    OtherSources,
    last_said,
    newest_version,
    refuse_replaced,
)
from raylake.layers.definition import Definition
from raylake.layers.derived import NEVER, Span, replays_app
from raylake.layers.errors import SourceReplaced
from raylake.layers.fitting import Fitting
from raylake.layers.gate import SideTables, side_target
from raylake.layers.holding import Hold
from raylake.layers.keyed_rows import DELETES
from raylake.layers.ownership import refuse_changed, refuse_others
from raylake.layers.progress import begun, follows_any, processed
from raylake.layers.refresh import Anew, Gathered, refreshed
from raylake.layers.resting import Rest, Resting
from raylake.layers.screened import read_for, reads_a_stream
from raylake.layers.source_logs import schema_at, watermark_of
from raylake.layers.source_parts import Limit
from raylake.layers.step import By, Stepped, step
from raylake.layers.step_look import StepLook, Target
from raylake.layers.table_ids import table_id
from raylake.layers.triggers import Fired
from raylake.quality.freshness_watch import Standing
from raylake.storage.place import Place, place
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import TableExists, TableMissing
from raylake.tables.feeds import CHANGE_FEED
from raylake.tables.requests import Create
from raylake.tables.upkeep_requests import SetProperties


class DerivedTable:
    """Brings one table up to date.

    Args:
        definition: The table.
        by: Who writes, and the time.
    """

    def __init__(self, definition: Definition, by: By) -> None:
        self.definition = definition
        self._by = by
        self._handle: DeltaTable | None = None
        self._fired: Fired | None = None
        self._hold = Hold(definition.pipeline, definition.name, definition.max_hold_s, by.clock)
        self._rested: dict[str, int] = {}
        self._resting = Resting(definition.gate.rules, definition.aside, by.tables, by.clock)
        self._mine = -1
        self._ends: dict[str, int] = {}
        self._fit = Fitting(definition.name, definition.widen_limit_bytes, by.tables)

    @property
    def name(self) -> str:
        """``layer.name``."""
        return self.definition.name

    def advance(self, *, ending: bool = False) -> Stepped | None:
        """Bring in what the source has brought; None where nothing is new, or the trigger waits.

        Args:
            ending: See :meth:`raylake.layers.triggers.Trigger.due`. What others write is followed
                up to where it was when this was said first, or they could be followed for ever.

        Raises:
            OwnedByAnother, DefinitionChanged: The table at the address is not this one.
            SourceGap: Versions of the source are gone.
            RayLakeError: As :func:`raylake.layers.step.step`.
        """
        one = self.definition
        if not ending and self._rests():
            self._hold.again()
            return None
        source_id = _source_id(self.definition)
        if source_id is None:
            return None
        newest = {at: newest_version(at) for at in one.sources}
        if ending:
            self._ends = {at: newest[at] for at in one.foreign} | self._ends
        handle = self._opened() or self._created()
        after = _after(one, handle, source_id)
        root = place(one.source_address)
        self._hold(root, source_id, after)
        others = _others(one, handle, self._ends)
        self._tell_others()
        span = self._span(handle, source_id, after)
        if span is None and others.moved:
            span = Span(one.source, str(root), source_id, after, after)
        if span is None or not self._due(root, span, ending=ending):
            # A schedule's moment comes without a version.
            self._rested = newest if span is None or one.trigger.cron is None else {}
            return None
        stepped = self._stepped(handle, span, others)
        if span.whole:
            self._hold(root, source_id, span.last)
            self._fired = Fired(self._by.now_ms(), stepped.watermark_ms)
        one.gate.past = one.gate.past.then(stepped.results)
        self._resting.stepped(stepped.results)
        _put_in_order(one, self._by)
        return stepped

    def _span(self, handle: DeltaTable, source_id: str, after: int) -> Span | None:
        """The versions, or the part of one, that come next."""
        one = self.definition
        limit = Limit(
            one.max_step_rows,
            one.max_step_bytes,
            idle_versions=one.idle_versions,
            cuts=self._cuts,
        )
        return source_changes.look_for(
            place(one.source_address),
            one.source,
            after,
            table_id=source_id,
            limit=limit,
            until=self._ends.get(one.source_address),
            begun=begun(handle.transaction_version, source_id),
        )

    def _cuts(self, version: int, *, first: bool) -> bool:
        one = self.definition
        schema = schema_at(place(one.source_address), version)
        if first and reads_a_stream(one.derivation, one.gate, schema, 1.0):
            return False
        return one.derivation.in_parts(schema)

    def _stepped(self, handle: DeltaTable, span: Span, others: OtherSources) -> Stepped:
        one = self.definition
        schema = schema_at(place(one.source_address), span.last)
        self._fit(one.derivation.table(schema).schema, (one.address, f"{one.sides}/{DELETES}"))
        handle.update_incremental()
        changes = read_for(one.derivation, one.gate, span, schema)
        own, said = str(handle.metadata().id), handle.transaction_version
        target = Target(
            one.name,
            one.address,
            own,
            int(handle.version()),
            one.sides,
            one.engine,
            said(replays_app(own)) or 0,
            begun(said, span.table_id),
        )
        look = StepLook(self._by.tables, target, span, one.places, others)
        return step(one, target, changes, look, self._by)

    def rest(self) -> tuple[Standing, ...]:
        """How its freshness rules stand while nothing comes; none where it is not there yet.

        Raises:
            RayLakeError: As :meth:`raylake.layers.resting.Resting.look`.
        """
        if self._handle is None:
            return ()
        return self._resting.look(partial(_at_rest, self.definition, self._handle))

    def refresh(self) -> Stepped | None:
        """Make the table anew of all that its source has, beside its readers.

        Raises:
            OwnedByAnother: The table at the address is another pipeline's.
            RayLakeError: As :func:`raylake.layers.refresh.refreshed`.
        """
        one = self.definition
        source_id = _source_id(self.definition)
        if source_id is None or not is_table(one.address):
            return self.advance(ending=True)
        handle = self._opened(anew=True)
        if handle is None:
            return None
        target = side_target(one.name, one.address, str(handle.metadata().id))
        done = {source_id: processed(handle.transaction_version, source_id)}
        replays = handle.transaction_version(replays_app(target.table_id)) or 0
        anew = Anew(target, one.sides, done, one.engine, replays)
        if not isinstance(one.aside, SideTables):
            raise TypeError("a table that is being made anew is not made anew")
        made = refreshed(anew, one.aside, self._by, self._fill)
        self._by.tables.execute(one.address, SetProperties(one.own_properties))
        self._handle = None
        return made

    def _fill(self, address: str, sides: str, aside: Gathered) -> Stepped | None:
        one = replace(self.definition, feeds=False, after_write=None)
        staged = replace(one, address=address, sides=sides, aside=aside)
        table = DerivedTable(staged, self._by)
        last: Stepped | None = None
        while (stepped := table.advance(ending=True)) is not None:
            last = stepped
        return last

    def _due(self, source: Place, span: Span, *, ending: bool) -> bool:
        trigger = self.definition.trigger
        goes_on = span.part is not None and span.part.begin > 0
        if trigger.kind == "source_changed" or goes_on:
            return True
        if self._fired is None:
            self._fired = Fired.of(last_said(place(self.definition.address)))
        watermark_ms = None
        if trigger.kind == "watermark":
            watermark_ms = watermark_of(source, newest_version(str(source)))
        return trigger.due(
            self._fired,
            self._by.now_ms(),
            source_moved=True,
            watermark_ms=watermark_ms,
            ending=ending,
        )

    def _opened(self, *, anew: bool = False) -> DeltaTable | None:
        """The newest version of the table; None where there is none yet."""
        if self._handle is not None:
            self._handle.update_incremental()
            self._refuse_replaced(self._handle)
            return self._handle
        try:
            handle = opened(place(self.definition.address))
        except TableMissing:
            return None
        self._checked(dict(handle.metadata().configuration), anew=anew)
        if not anew:
            self._refuse_replaced(handle)
        # What an earlier process committed and did not follow up.
        one = self.definition
        aside = side_target(one.name, one.address, str(handle.metadata().id))
        one.aside.follow_up(aside)
        if isinstance(one.aside, SideTables):
            one.gate.past = one.aside.past(aside)
        self._handle = handle
        return handle

    def _refuse_replaced(self, handle: DeltaTable) -> None:
        if handle.version() != self._mine:
            refuse_replaced(self.name, place(self.definition.address), int(handle.version()))
        self._mine = handle.version()

    def _checked(self, configuration: Mapping[str, str], *, anew: bool) -> None:
        one = self.definition
        refuse_others((one.name, one.address), one.pipeline, configuration)
        if not anew:
            refuse_changed((one.name, one.address), one.digest, configuration)
        if one.feeds and configuration.get(CHANGE_FEED, "").lower() != "true":
            # Changes before this version are told by its files, which is slower and as right.
            self._by.tables.execute(one.address, SetProperties({CHANGE_FEED: "true"}))

    def _created(self) -> DeltaTable:
        one = self.definition
        root = place(one.source_address)
        self._tell_others()
        wanted = one.derivation.table(schema_at(root, newest_version(one.source_address)))
        properties = {**wanted.properties, **one.own_properties}
        request = Create(
            wanted.schema,
            wanted.partition_by,
            properties,
            wanted.constraints,
            wanted.description or f"{one.name} of pipeline {one.pipeline}, from {one.source}",
        )
        # Another process may be quicker, with the same definition or another one.
        with suppress(TableExists):
            self._by.tables.execute(one.address, request)
        handle = self._opened()
        if handle is None:
            raise NotOurTable(f"{one.address}: the table was made and is not there")
        return handle

    def _tell_others(self) -> None:
        one = self.definition
        if one.others and isinstance(one.derivation, Aggregates):
            places = {name: place(one.places[name]) for name in one.others}
            one.derivation.others(
                {name: schema_at(at, newest_version(str(at))) for name, at in places.items()}
            )

    def _rests(self) -> bool:
        """Whether no source has gone on since there was nothing to do; a file is asked for each."""
        return bool(self._rested) and not any(
            log_files.commit_path(place(at), version + 1).exists()
            for at, version in self._rested.items()
        )


def _put_in_order(one: Definition, by: By) -> None:
    if one.after_write is not None:
        one.after_write(by.tables, one.address, one.engine)


def _at_rest(one: Definition, handle: DeltaTable) -> Rest:
    target = side_target(one.name, one.address, str(handle.metadata().id))
    root = place(one.source_address)
    source_id = table_id(root)
    done = processed(handle.transaction_version, source_id)
    return Rest(target, int(handle.version()), Span(one.source, str(root), source_id, done, done))


def _source_id(one: Definition) -> str | None:
    try:
        return table_id(place(one.source_address))
    except NotOurTable:
        return None


def _after(one: Definition, handle: DeltaTable, source_id: str) -> int:
    """The last version of the source that is processed."""
    said = handle.transaction_version
    found = processed(said, source_id)
    if found != NEVER or begun(said, source_id) is not None:
        return found
    if follows_any(list_txns(place(one.address))):
        raise SourceReplaced(
            f"{one.name} ({one.address}) follows another table than the one that lies at "
            f"{one.source_address} now ({one.source}, table id {source_id})",
            hint=f"`raylake transform run FILE --full-refresh {one.name}` makes it anew from "
            "what is there",
            first=0,
            last=0,
            oldest=0,
        )
    return NEVER


def _others(one: Definition, handle: DeltaTable, ends: Mapping[str, int]) -> OtherSources:
    """How far the further tables are that it reads; none later than they are to be followed."""
    found = {}
    for name in one.others:
        address = one.places[name]
        own = table_id(place(address))
        seen = processed(handle.transaction_version, own)
        end = ends.get(address, newest_version(address))
        found[name] = (own, max(end, seen), seen)
    return OtherSources(found)
