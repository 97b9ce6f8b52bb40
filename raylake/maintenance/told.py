"""A plan as plain data, for JSON, and in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from raylake.config.units import format_size
from raylake.maintenance.actions import Action, said
from raylake.maintenance.plan import Plan
from raylake.maintenance.price import Price


def as_data(name: str, address: str, plan: Plan) -> dict[str, Any]:
    """A plan as plain data.

    Args:
        name: The table's name.
        address: Where it lies.
        plan: The plan.
    """
    debt = plan.debt
    return {
        "table": name,
        "address": address,
        "version": debt.version,
        "files": debt.files,
        "bytes": debt.nbytes,
        "partitions": debt.partitions,
        "score": round(debt.score, 3),
        "debt": [
            {
                "part": one.name,
                "score": round(one.score, 3),
                "measured": round(one.measured, 6),
                "threshold": one.threshold,
                "due": one.due,
                "reason": one.reason,
            }
            for one in debt.parts
        ],
        "actions": [_action(one) for one in plan.actions],
        "refused": [asdict(one) for one in plan.refusals],
        "price": _price(plan.price),
        "notes": list(plan.notes),
    }


def in_words(name: str, plan: Plan) -> Iterator[str]:
    """A plan in lines of text.

    Args:
        name: The table's name.
        plan: The plan.
    """
    debt = plan.debt
    yield (
        f"{name}: version {debt.version}, {debt.files:,} files, {format_size(debt.nbytes)}, "
        f"debt {debt.score:.2f}"
    )
    for part in debt.parts:
        yield f"  {'due ' if part.due else '    '}{part.name:<12} {part.score:6.2f}  {part.reason}"
    for number, one in enumerate(plan.actions, 1):
        where = f" {said(one.partition)}" if one.partition else ""
        when = ""
        if one.when is not None:
            when = f", next {datetime.fromtimestamp(one.when, UTC):%Y-%m-%d %H:%M} UTC"
        yield f"  {number}. {one.kind}{where}{when}: {one.reason}"
        yield f"     gain: {one.gain}"
        yield f"     price: {_priced(one.price)}"
    if not plan.actions:
        yield "  nothing is due"
    for refusal in plan.refusals:
        where = f" {said(refusal.partition)}" if refusal.partition else ""
        yield f"  not {refusal.kind}{where}: {refusal.reason}"
    for note in plan.notes:
        yield f"  note: {note}"
    if plan.actions:
        cores = os.cpu_count() or 1
        seconds = plan.price.cpu_s / (plan.cpu * cores)
        yield f"  in all: {_priced(plan.price)}"
        yield f"  about {seconds:,.0f} s at {plan.cpu:.0%} of {cores} CPUs; nothing was changed"


def _action(one: Action) -> dict[str, Any]:
    when = None if one.when is None else datetime.fromtimestamp(one.when, UTC)
    return {
        "action": one.kind,
        "partition": None if one.partition is None else dict(one.partition),
        "reason": one.reason,
        "gain": one.gain,
        "price": _price(one.price),
        "groups": [list(group) for group in one.groups],
        "when": None if when is None else when.isoformat().replace("+00:00", "Z"),
    }


def _price(price: Price) -> dict[str, Any]:
    return {**asdict(price), "cpu_s": round(price.cpu_s, 3)}


def _priced(price: Price) -> str:
    found = [f"reads {format_size(price.bytes_read)}, writes {format_size(price.bytes_written)}"]
    if price.bytes_freed:
        found.append(f"frees {format_size(price.bytes_freed)}")
    found += [f"{price.cpu_s:,.1f} CPU-seconds", f"{price.requests:,} requests"]
    return ", ".join(found)
