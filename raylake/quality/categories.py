"""The seven categories of quality, checked without any rule written (SPEC E2).

Each is judged from the schema, the profile of the rows that came and what was measured before:

================  ===================================  ============================================
category          measured, by column                  found where it is
================  ===================================  ============================================
completeness      share of rows without a value        above the mean by 3 deviations (each ≥ 1 %)
accuracy          mean of numbers                      4 deviations off the mean (each ≥ 10 % of it)
consistency       type; mean length of texts           another type, a column that is gone; as
                                                       accuracy, ≥ 25 % and a character
freshness         age of the newest time, seconds      above the mean by 4 deviations (each ≥ 60 s);
                                                       also when nothing arrives
uniqueness        distinct values a row; share of      below by 3 deviations (each ≥ 3 %) where it
                  repeated rows                        was 90 % or more; above by 3 (each ≥ 1 %)
validity          share of blank texts, NaN,           above by 3 deviations (each ≥ 1 %)
                  infinities, times before 1900 or
                  after 2200
business_rules    share of negative numbers, and of    above 0 where it never was
                  rows in which one time is after
                  another
================  ===================================  ============================================

Mean and deviation are those of the last :data:`~raylake.quality.past.KEPT_RESULTS` results; with
less than :data:`~raylake.quality.past.ENOUGH_RESULTS` nothing is found, but for what the schema
says. Of a category's result ``rows`` is the number of measurements, ``failed`` that of findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from raylake.quality.past import ENOUGH_RESULTS, Past, Usual
from raylake.quality.past import usual as usual_of
from raylake.quality.profile import ColumnProfile, Profile, profile
from raylake.quality.results import RuleResult
from raylake.quality.telling import instant

CATEGORIES: Final = (
    "completeness",
    "accuracy",
    "consistency",
    "freshness",
    "uniqueness",
    "validity",
    "business_rules",
)
REPEATED: Final = "*"
"""The measurement of uniqueness that is about whole rows."""
_TYPES: Final = " types"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FEW_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class _Found:
    """One thing that is unusual.

    Attributes:
        figure: What was measured.
        threshold: What it was held against.
        message: In plain words.
        advice: What to do.
    """

    figure: float
    threshold: float
    message: str
    advice: str


@dataclass(slots=True)
class _Judged:
    """A category while it is judged."""

    measures: dict[str, Any] = field(default_factory=dict)
    found: list[_Found] = field(default_factory=list)
    known: int = 0

    def expect(self, usual: Usual) -> bool:
        """Whether there is something to hold a figure against."""
        self.known += usual.known
        return usual.known


@dataclass(frozen=True, slots=True)
class _Asked:
    rows: Profile
    past: Past
    now: datetime
    schema: pa.Schema


def check(rows: pa.Table, past: Past, now: datetime) -> tuple[RuleResult, ...]:
    """Judge the rows that a step brings; one result a category, in their order.

    Args:
        rows: In the table's columns; none are judged as well.
        past: What was measured before.
        now: The time, with a zone.
    """
    asked = _Asked(profile(rows), past, now, rows.schema)
    return tuple(_result(name, _JUDGES[name](asked), asked) for name in CATEGORIES)


def _result(category: str, judged: _Judged, asked: _Asked) -> RuleResult:
    measured = len(judged.measures)
    worst = max(judged.found, key=lambda one: abs(one.figure - one.threshold), default=None)
    if worst is not None:
        message = "; ".join(one.message for one in judged.found)
        advice = "; ".join(dict.fromkeys(one.advice for one in judged.found))
    else:
        message, advice = _quiet(category, judged, asked), ""
    return RuleResult(
        category,
        category,
        "warning",
        "continue",
        max(measured, len(judged.found)),
        len(judged.found),
        message=message,
        recommendation=advice,
        figure=worst.figure if worst else _overall(judged.measures),
        threshold=worst.threshold if worst else None,
        measures=judged.measures,
        by_rule=False,
    )


def _quiet(category: str, judged: _Judged, asked: _Asked) -> str:
    if not judged.measures:
        return "no rows came" if not asked.rows.rows else "no column to measure this by"
    if not judged.known and category != "consistency":
        seen = len(asked.past.of(category))
        return f"measured; judged from the {ENOUGH_RESULTS + 1}th result on (there are {seen})"
    return "as usual"


def _overall(measures: Mapping[str, Any]) -> float | None:
    figures = [one for one in measures.values() if isinstance(one, int | float)]
    return sum(figures) / len(figures) if figures else None


def _shares(
    asked: _Asked, category: str, measures: Mapping[str, float], said: str, advice: str
) -> _Judged:
    """Shares that should not grow."""
    judged = _Judged(dict(measures))
    for name, share in measures.items():
        usual = asked.past.usual(category, name)
        limit = min(1.0, usual.above(3, 0.01))
        if judged.expect(usual) and share > limit:
            text = f"{said.format(name)} in {_percent(share)} of the rows"
            text += f"; usually {_percent(usual.mean)}"
            judged.found.append(_Found(share, limit, text, advice.format(name)))
    return judged


def _completeness(asked: _Asked) -> _Judged:
    measures = {name: one.nulls for name, one in _columns(asked)}
    judged = _shares(
        asked,
        "completeness",
        measures,
        "{} has no value",
        "find out why the producer leaves {0} out; not_null on {0} would keep such rows away",
    )
    for part in asked.schema:
        share = measures.get(part.name, 0.0)
        if not part.nullable and share:
            text = f"{part.name} must have a value, and has none in {_percent(share)} of the rows"
            advice = f"write {{rule: not_null, columns: [{part.name}], on_failure: quarantine}}"
            judged.found.append(_Found(share, 0.0, text, advice))
    return judged


def _accuracy(asked: _Asked) -> _Judged:
    numbers = {
        name: one.mean
        for name, one in _columns(asked)
        if one.mean is not None and one.low is not None
    }
    return _means(asked, "accuracy", numbers, (0.1, 0.0), "the mean of {}")


def _consistency(asked: _Asked) -> _Judged:
    lengths = {
        name: one.mean for name, one in _columns(asked) if one.mean is not None and one.low is None
    }
    judged = _means(asked, "consistency", lengths, (0.25, 1.0), "the mean length of {}")
    kinds = {name: one.kind for name, one in asked.rows.columns.items()}
    before = asked.past.values("consistency", _TYPES)
    for name, kind in (before[-1] if before else {}).items():
        if name not in kinds:
            text = f"column {name} is gone"
        elif kinds[name] != kind:
            text = f"column {name} is {kinds[name]}, it was {kind}"
        else:
            continue
        advice = "see whether the change of the schema was meant; readers may depend on the column"
        judged.found.append(_Found(1.0, 0.0, text, advice))
    judged.measures[_TYPES] = kinds
    return judged


def _means(
    asked: _Asked,
    category: str,
    measures: Mapping[str, float],
    least: tuple[float, float],
    said: str,
) -> _Judged:
    judged = _Judged(dict(measures))
    for name, mean in measures.items():
        usual = asked.past.usual(category, name)
        room = max(least[0] * abs(usual.mean), least[1], 1e-9)
        low, high = usual.below(4, room), usual.above(4, room)
        if judged.expect(usual) and asked.rows.rows >= _FEW_ROWS and not low <= mean <= high:
            what = said.format(name)
            text = f"{what} is {mean:.6g}; usually {usual.mean:.6g} ({low:.6g} to {high:.6g})"
            advice = f"look whether the unit or the meaning of {name} has changed at its source"
            judged.found.append(_Found(mean, high if mean > high else low, text, advice))
    return judged


def _freshness(asked: _Asked) -> _Judged:
    now_us = (asked.now - _EPOCH).total_seconds() * 1e6
    earlier = asked.past.of("freshness")
    newest = {name: int(one[0]) for name, one in (earlier[-1] if earlier else {}).items()}
    for name, one in asked.rows.columns.items():
        if one.newest_us is not None:
            newest[name] = max(one.newest_us, newest.get(name, one.newest_us))
    judged = _Judged()
    for name, at_us in newest.items():
        age_s = max(0.0, (now_us - at_us) / 1e6)
        ages = [float(one[1]) for one in asked.past.values("freshness", name)]
        usual = usual_of(ages)
        limit = usual.above(4, 60.0)
        if judged.expect(usual) and age_s > limit:
            text = f"the newest {name} is {instant(at_us)}, {age_s:.0f} s old; usually "
            text += f"{usual.mean:.0f} s (at most {limit:.0f} s)"
            advice = "look whether the source still sends: raylake status tells its lag"
            judged.found.append(_Found(age_s, limit, text, advice))
        judged.measures[name] = [at_us, round(age_s, 3)]
    if not asked.rows.rows:
        # Quiet times would teach that it is usual to be old.
        return _Judged({}, judged.found, judged.known)
    return judged


def _uniqueness(asked: _Asked) -> _Judged:
    rows = asked.rows.rows
    measures = {
        name: min(1.0, one.distinct / rows) for name, one in _columns(asked) if one.distinct
    }
    judged = _Judged(dict(measures))
    for name, share in measures.items():
        usual = asked.past.usual("uniqueness", name)
        limit = usual.below(3, 0.03)
        told = judged.expect(usual) and rows >= _FEW_ROWS and usual.mean >= 0.9
        if told and share < limit:
            text = f"{name} has {_percent(share)} distinct values a row"
            text += f"; usually {_percent(usual.mean)}"
            advice = f"find the writer that repeats rows; unique on {name} would name them"
            judged.found.append(_Found(share, limit, text, advice))
    if rows:
        whole = _shares(
            asked,
            "uniqueness",
            {REPEATED: asked.rows.repeated},
            "another row is the same",
            "find the writer that repeats rows, or deduplicate by keys",
        )
        judged.measures |= whole.measures
        judged.found += whole.found
        judged.known += whole.known
    return judged


def _validity(asked: _Asked) -> _Judged:
    measures = {name: one.odd for name, one in _columns(asked) if one.odd is not None}
    return _shares(
        asked,
        "validity",
        measures,
        "{} is blank, not a number, or a time that is hardly meant",
        "look at these values of {0}; a regex, range or sql rule on {0} would keep them away",
    )


def _business_rules(asked: _Asked) -> _Judged:
    measures: dict[str, float] = {
        f"{name} >= 0": one.negative for name, one in _columns(asked) if one.negative is not None
    }
    measures |= asked.rows.disorder or {}
    judged = _Judged(dict(measures))
    for name, share in measures.items():
        usual = asked.past.usual("business_rules", name)
        if judged.expect(usual) and usual.mean == 0.0 and share > 0.0:
            text = f"{name} does not hold for {_percent(share)} of the rows; it always did"
            advice = f"write {{rule: sql, condition: '{name}'}} if it must hold"
            judged.found.append(_Found(share, 0.0, text, advice))
    return judged


def _columns(asked: _Asked) -> Sequence[tuple[str, ColumnProfile]]:
    """The columns with their figures; none without rows."""
    return list(asked.rows.columns.items()) if asked.rows.rows else []


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


_JUDGES: Final[Mapping[str, Callable[[_Asked], _Judged]]] = {
    "completeness": _completeness,
    "accuracy": _accuracy,
    "consistency": _consistency,
    "freshness": _freshness,
    "uniqueness": _uniqueness,
    "validity": _validity,
    "business_rules": _business_rules,
}
