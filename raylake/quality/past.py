"""What the seven categories measured before, and what may be expected of the next figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from raylake.quality.results import RuleResult

KEPT_RESULTS: Final = 20
"""Results that figures are held against: the last ones."""
ENOUGH_RESULTS: Final = 3
"""Results without which no threshold is derived."""


class Usual(NamedTuple):
    """What figures were until now.

    Attributes:
        mean: Their mean.
        deviation: Their standard deviation.
        number: How many there are.
    """

    mean: float
    deviation: float
    number: int

    @property
    def known(self) -> bool:
        """Whether there are enough to expect anything."""
        return self.number >= ENOUGH_RESULTS

    def above(self, times: float, least: float) -> float:
        """The mean and some deviations.

        Args:
            times: How many.
            least: What a deviation counts for at least.
        """
        return self.mean + times * max(self.deviation, least)

    def below(self, times: float, least: float) -> float:
        """The mean less some deviations; as :meth:`above`."""
        return self.mean - times * max(self.deviation, least)


class Past:
    """The last results of a table's categories.

    Args:
        measures: By category, oldest first.
    """

    def __init__(self, measures: Mapping[str, Sequence[Mapping[str, Any]]] | None = None) -> None:
        self._measures: dict[str, list[Mapping[str, Any]]] = {}
        for category, each in (measures or {}).items():
            self._measures[category] = list(each)[-KEPT_RESULTS:]

    def of(self, category: str) -> Sequence[Mapping[str, Any]]:
        """What a category measured, oldest first."""
        return self._measures.get(category, ())

    def values(self, category: str, name: str) -> list[Any]:
        """One measurement of a category, oldest first."""
        return [one[name] for one in self.of(category) if name in one]

    def usual(self, category: str, name: str) -> Usual:
        """What one measurement was until now."""
        return usual(self.values(category, name))

    def then(self, results: Iterable[RuleResult]) -> Past:
        """With the results of one more step; those that measured nothing leave no trace."""
        made = {category: list(each) for category, each in self._measures.items()}
        for one in results:
            if not one.by_rule and one.measures:
                made.setdefault(one.category, []).append(one.measures)
        return Past(made)


def usual(figures: Sequence[float]) -> Usual:
    """Mean and deviation of figures."""
    if not figures:
        return Usual(0.0, 0.0, 0)
    return Usual(statistics.fmean(figures), statistics.pstdev(figures), len(figures))
