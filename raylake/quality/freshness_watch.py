"""Whether a table stays fresh while nothing comes, as a state machine on the clock it is given.

A step judges ``freshness`` on the rows that it brings. Between steps a table grows older by
itself: :class:`FreshnessWatch` says when it is to be looked at, and what of that is to be told:
each change between fresh and stale, and while it is stale once in :data:`TELL_AGAIN_S`. There are
no rows to set aside and no step to abort: whatever ``on_failure`` says, the table goes on when rows
come.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final, cast

from raylake.config.quality import Freshness
from raylake.quality.named import NamedRule
from raylake.quality.results import RuleResult
from raylake.quality.table_rules import Age
from raylake.quality.telling import CATEGORY_OF, advice, stale

TELL_AGAIN_S: Final = 3600.0
"""How long a table is stale before that is told once more."""
LOOK_AGAIN_S: Final = 60.0
"""How long a stale table is left before it is looked at again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a freshness rule stands.

    Attributes:
        rule: Its name.
        severity: ``error``, ``warning`` or ``info``.
        on_failure: ``continue`` or ``abort``.
        stale: Whether the newest value is too old.
        since: When that was found first, seconds since the epoch; None: it is fresh.
        message: What was found, in plain words.
        recommendation: What to do; empty where it is fresh.
    """

    rule: str
    severity: str
    on_failure: str
    stale: bool
    since: float | None
    message: str
    recommendation: str = ""

    @property
    def fails(self) -> bool:
        """Whether the table counts as failing."""
        return self.stale and self.on_failure == "abort"

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in type(self).__slots__}


class FreshnessWatch:
    """One freshness rule between steps.

    Args:
        one: The rule.
        last: Whether it held when it was last told, and when that was, in seconds since the epoch;
            None: it was never told.
    """

    def __init__(self, one: NamedRule, last: tuple[bool, float] | None = None) -> None:
        self.one = one
        self.rule = cast("Freshness", one.rule)
        self._stale = last is not None and not last[0]
        self._told_s = None if last is None else last[1]
        self._since_s = last[1] if last is not None and self._stale else None
        self._newest_us: int | None = None
        self._due_s = float("-inf")
        self.version: int | None = None
        self.standing: Standing | None = None

    def due(self, now_s: float) -> bool:
        """Whether the table may stand otherwise than it did: then it is to be looked at."""
        return now_s > self._due_s

    def again(self, now: dt.datetime) -> RuleResult | None:
        """As :meth:`looked`, where the table has nothing that it did not have then."""
        limit_us = (now.timestamp() - self.rule.max_age_s) * 1e6
        newest = self._newest_us
        return self.looked(Age(newest, newest is None or newest < limit_us), now)

    def looked(self, age: Age, now: dt.datetime) -> RuleResult | None:
        """What was found of a table at rest.

        Returns:
            What is to be told; None: nothing has changed, or it was told lately.
        """
        found, before = self._result(age, now), self._stale
        self._stand(found, age.newest_us, now.timestamp())
        told_s = self._told_s
        lately = told_s is not None and 0 <= now.timestamp() - told_s < TELL_AGAIN_S
        if age.stale == before and (lately or not age.stale):
            return None
        self._told_s = now.timestamp()
        return found

    def stepped(self, found: RuleResult, now: dt.datetime) -> None:
        """What a step found, whose own lines tell it."""
        try:
            newest = dt.datetime.fromisoformat(found.values[0]) if found.values else None
        except ValueError:
            newest = None
        newest_us = None if newest is None else round(newest.timestamp() * 1e6)
        self._stand(found, newest_us, now.timestamp())
        self._told_s, self.version = now.timestamp(), None

    def _stand(self, found: RuleResult, newest_us: int | None, now_s: float) -> None:
        self._stale, self._newest_us = not found.passed, newest_us
        self._since_s = (self._since_s or now_s) if self._stale else None
        self._due_s = now_s + LOOK_AGAIN_S
        if not self._stale and newest_us is not None:
            self._due_s = newest_us / 1e6 + self.rule.max_age_s
        self.standing = Standing(
            found.rule,
            found.severity,
            found.on_failure,
            self._stale,
            self._since_s,
            found.message,
            found.recommendation,
        )

    def _result(self, age: Age, now: dt.datetime) -> RuleResult:
        message, newest = stale(self.rule, age, now)
        return RuleResult(
            self.one.name,
            CATEGORY_OF[self.rule.rule],
            self.rule.severity,
            self.rule.on_failure,
            rows=1,
            failed=int(age.stale),
            values=newest,
            message=message,
            recommendation=advice(self.rule) if age.stale else "",
        )
