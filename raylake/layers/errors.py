"""Why a derived table is not brought up to date; in each case it is as it was."""

from __future__ import annotations

from raylake.errors import ConfigError, Refused


class TransformRefused(Refused):
    """The root: a step was refused, and neither rows nor progress were written."""

    code = "transform_refused"


class UnknownSource(ConfigError, TransformRefused):
    """A table reads one that no pipeline writes."""

    code = "unknown_source"


class Cycle(ConfigError, TransformRefused):
    """Tables read each other in a circle.

    The context's ``path`` names them, the first one again at the end.
    """

    code = "cycle"


class DefinitionChanged(TransformRefused):
    """A table was made by another definition than the file's."""

    code = "definition_changed"


class TargetReplaced(TransformRefused):
    """Somebody else put other rows in the place of a table's: it no longer is what it says it is.

    The context's ``version`` and ``operation`` name the commit.
    """

    code = "target_replaced"


class OwnedByAnother(TransformRefused):
    """The table at the address belongs to another pipeline."""

    code = "owned_by_another"


class SourceGap(TransformRefused):
    """Versions of the source that a table has not processed are gone."""

    code = "source_gap"

    @property
    def first(self) -> int:
        """The first version that is missing."""
        return int(self.context["first"])

    @property
    def last(self) -> int:
        """The last version that is missing."""
        return int(self.context["last"])

    @property
    def oldest(self) -> int:
        """The oldest version that can still be read."""
        return int(self.context["oldest"])


class SourceReplaced(SourceGap):
    """Another table lies where the source was, or the source is older than what was processed.

    ``first`` and ``last`` are the versions that the table would need, as for a gap.
    """

    code = "source_replaced"


class SourceRowsLeft(TransformRefused):
    """Rows of the source were changed or taken away, and the table can only append."""

    code = "source_rows_left"
