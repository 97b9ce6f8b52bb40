"""The errors that RayLake raises, their exit codes and what each one asks of its reader.

One root, :class:`RayLakeError`. Every error is plain data (message, hint, context) and survives
pickling, since errors travel between processes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RayLakeError(Exception):
    """The root of every error that RayLake raises on purpose.

    Args:
        message: What happened and where (file:line, partition, offset, version).
        hint: What the reader can do next; empty when there is nothing to do.
        **context: Plain data for logs and ``--output json`` (JSON-serialisable, never a secret).
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.context))

    def to_dict(self) -> dict[str, Any]:
        """What a status document says of it: code, message, hint and exit code."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def _rebuild(
    kind: type[RayLakeError], message: str, hint: str, context: dict[str, Any]
) -> RayLakeError:
    return kind(message, hint=hint, **context)


class Retryable(RayLakeError):
    """A transient failure: the operation did not happen and may be tried again."""

    code = "retryable"


class OutcomeUnknown(RayLakeError):
    """The operation may or may not have happened: read the log before anything is repeated (I4)."""

    code = "outcome_unknown"


class Terminal(RayLakeError):
    """Trying again cannot help."""

    code = "terminal"


class ConfigError(Terminal):
    """The configuration or the command line is wrong."""

    code = "configuration"
    exit_code = 2


class WrongVersion(ConfigError):
    """Client and cluster are of versions that do not fit together."""

    code = "wrong_version"


class AccessDenied(Terminal):
    """A cluster does not let us in, or not do this: certificates, credentials or rights."""

    code = "access_denied"


class UnknownTopic(ConfigError):
    """A topic that the configuration names does not exist, or no longer does."""

    code = "unknown_topic"


class VerifyDifference(Terminal):
    """``verify`` found a difference between the ledger and the data."""

    code = "verify_difference"
    exit_code = 3


class DependencyUnreachable(Retryable):
    """A broker, store or registry cannot be reached."""

    code = "unreachable"
    exit_code = 4


class Refused(Terminal):
    """Refused in order to protect data; nothing was changed."""

    code = "refused"
    exit_code = 5


class ReplayOvertaken(Refused):
    """Dead letters, or their table's columns, changed while a replay looked at them."""

    code = "replay_overtaken"


class UnsupportedTable(Refused):
    """The table has a feature or a property that RayLake must not write."""

    code = "unsupported_table"


class NotOurTable(Refused):
    """The path holds something that is not a table of this pipeline's."""

    code = "not_our_table"


class SchemaConflict(Refused):
    """The configured schema contradicts the table's."""

    code = "schema_conflict"


class OffsetsLost(Refused):
    """Kafka no longer has (or never had) the offset that the ledger asks for (I6)."""

    code = "offsets_lost"


class TopicRecreated(Refused):
    """The topic's id changed: it was deleted and created again under its name (I6)."""

    code = "topic_recreated"


class LogDamaged(Refused):
    """The table's log was overwritten, torn or changed by somebody else."""

    code = "log_damaged"


class AlreadyRunning(Refused):
    """Another run holds the pipeline or the table."""

    code = "already_running"


class Fenced(Refused):
    """A newer owner has taken the table over; this one stops for good, never restarted (I11)."""

    code = "fenced"
    exit_code = 6


EXIT_DONE = 0
EXIT_INTERRUPTED = 130
