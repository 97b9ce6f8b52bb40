"""A derived table's hold on its source: vacuum and log clean-up leave what it has not processed."""

from __future__ import annotations

import logging

from raylake.clock import Clock
from raylake.delta.leases import Leases, reader_of
from raylake.errors import ConfigError, Refused
from raylake.storage.place import Place

log = logging.getLogger(__name__)


class Hold:
    """Renews the lease of one table on its source.

    Args:
        pipeline: Who reads.
        table: For which table, ``layer.name``.
        max_hold_s: How long the lease counts without a word, in seconds.
        clock: Time.
    """

    def __init__(self, pipeline: str, table: str, max_hold_s: float, clock: Clock) -> None:
        self._table = table
        self._reader = reader_of(pipeline, table)
        self._max_hold_s = max_hold_s
        self._clock = clock
        self._leases: tuple[Place, Leases] | None = None
        self._held: tuple[Place, str, int] | None = None
        self._told: int | None = None

    def __call__(self, source: Place, source_id: str, processed: int) -> None:
        """Hold what comes after a version.

        A source that others own may be closed to us: that is told once for each version, and what
        is gone then is told by its name when it is needed.
        """
        self._held = (source, source_id, processed)
        if self._leases is None or self._leases[0] != source:
            self._leases = (source, Leases(source, self._clock))
        try:
            self._leases[1].renew(self._reader, source_id, max(0, processed), self._max_hold_s)
        except (Refused, ConfigError) as error:
            if processed != self._told:
                log.warning("%s does not hold its source: %s", self._table, error.message)
            self._told = processed

    def again(self) -> None:
        """Hold the same as last time."""
        if self._held is not None:
            self(*self._held)
