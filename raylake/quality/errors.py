"""Why rules stopped a table, or cannot be judged; in each case the table is as it was."""

from __future__ import annotations

from raylake.errors import ConfigError
from raylake.layers.errors import TransformRefused
from raylake.quality.results import RuleResult


class QualityAbort(TransformRefused):
    """Rows break a rule whose ``on_failure`` is ``abort``.

    The context has ``rule``, ``failed`` (rows), ``rows`` and ``values``: the first five that fail.

    Attributes:
        results: What each rule found; known where it was raised, and does not travel.
    """

    code = "quality_abort"
    results: tuple[RuleResult, ...] = ()


class RuleRefused(ConfigError, TransformRefused):
    """A rule does not fit the table: a column that is not there, or of another kind."""

    code = "quality_rule"


class CustomRuleFailed(TransformRefused):
    """A custom rule's function cannot be loaded, raised an error, or gave no mask."""

    code = "custom_rule"
