"""What is worth an error while fetching: offsets that are gone, brokers that stay silent."""

from __future__ import annotations

from raylake.errors import OffsetsLost, RayLakeError, TopicRecreated, UnknownTopic
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster


class SilenceWatch:
    """How long each partition's broker has been waited for in vain.

    Only time spent waiting counts, so a caller that comes back late sees no false alarm.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waited_s: dict[SourcePartition, float] = {}
        self._answered_s: dict[SourcePartition, float] = {}

    def answered(self, source: SourcePartition, at_s: float) -> None:
        """The partition's broker last answered at ``at_s``, monotonic; old answers are no news."""
        if at_s > self._answered_s.get(source, 0.0):
            self._answered_s[source] = at_s
            self._waited_s.pop(source, None)

    def excuse(self, source: SourcePartition) -> None:
        """Nothing is expected of this partition now."""
        self._waited_s.pop(source, None)

    def waited(self, source: SourcePartition, seconds: float) -> None:
        """It was waited for, and did not answer."""
        self._waited_s[source] = self._waited_s.get(source, 0.0) + seconds

    def overdue(self) -> list[SourcePartition]:
        """The partitions beyond the limit; their count starts again."""
        found = sorted(s for s, waited_s in self._waited_s.items() if waited_s >= self._limit_s)
        if found:
            self._waited_s.clear()
        return found


def offsets_lost(
    source: SourcePartition, asked: int, start: int, end: int, divergent: int | None
) -> OffsetsLost:
    """The error for offsets that Kafka does not have.

    Args:
        source: The partition.
        asked: The offset that was asked for.
        start: Where Kafka's log starts.
        end: Where Kafka's log ends.
        divergent: Where the log was cut off, when that is known.
    """
    if asked < start:
        count = start - asked
        text = f"{count} offsets [{asked}, {start}) are gone: Kafka's log starts at {start}"
        hint = (
            "they passed the topic's retention, or were deleted, before they were read;"
            " `on_data_loss: record` writes the range into the ledger and goes on"
        )
    elif divergent is not None:
        count = asked - divergent
        cut = f"Kafka's log was cut off at {divergent}, before the offset asked for, {asked}"
        text = f"{cut}: {count} offsets that were read are gone"
        hint = "an unclean leader election dropped records that were read; see `raylake rewind`"
    else:
        count = max(0, asked - end)
        text = f"offset {asked} was asked for, but Kafka's log ends at {end}, {count} before it"
        hint = "the log was cut off (unclean leader election) or restored from an older copy"
    return OffsetsLost(
        f"{source}: {text}",
        hint=hint,
        topic=source.topic,
        topic_id=source.topic_id,
        partition=source.partition,
        asked=asked,
        log_start=start,
        log_end=end,
        divergent=divergent,
        count=count,
    )


def loss_of(
    cluster: Cluster, source: SourcePartition, asked: int, divergent: int | None
) -> RayLakeError:
    """The error for a partition that stands still: why, as the brokers tell it now.

    Raises:
        DependencyUnreachable: No broker answers; ask again.
    """
    try:
        cluster.check([source])
        start = cluster.earliest([source])[source]
        end = cluster.latest([source], committed=False)[source]
    except (TopicRecreated, UnknownTopic) as error:
        return error
    return offsets_lost(source, asked, start, end, divergent)
