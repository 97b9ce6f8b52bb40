"""Amazon CloudWatch: the port of ``raylake.telemetry.metrics`` over boto3's ``put_metric_data``.

CloudWatch adds up what it is sent: counters are sent as what they grew by, histograms as their
observations, gauges as they are.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from raylake.clock import Clock
from raylake.config.observing import CloudWatch
from raylake.config.secrets import SecretRef
from raylake.errors import ConfigError, DependencyUnreachable
from raylake.telemetry.metrics import Labels
from raylake.telemetry.pushing import blotted
from raylake.telemetry.spec import declared

PER_REQUEST: Final = 500
"""Values of one request; CloudWatch takes 1,000 data of 1 MB."""
OBSERVED_PER_REQUEST: Final = 50
"""Data of one request that have up to :data:`PER_DATUM` values each."""
PER_DATUM: Final = 150
"""Different values of one datum, which is what CloudWatch takes."""
KEPT_OBSERVATIONS: Final = 10_000
"""Of a histogram while CloudWatch is away; later ones are dropped."""

_TOLD: Final = 200

Series = tuple[str, tuple[tuple[str, str], ...]]


class CloudWatchTarget:
    """Collects samples, and sends what is new of them.

    Args:
        section: ``metrics.cloudwatch``.
        clock: The time of the data.
    """

    name = "cloudwatch"

    def __init__(self, section: CloudWatch, clock: Clock) -> None:
        self._section = section
        self._clock = clock
        self._lock = threading.Lock()
        self._grown: dict[Series, float] = {}
        self._gauges: dict[Series, float] = {}
        self._observed: dict[Series, Counter[float]] = {}
        self._client: Any = None
        self._known_by: tuple[str | None, ...] = ()
        """Id, key and token that the client has, where the file names them."""

    @property
    def interval_s(self) -> float:
        """Between two pushes."""
        return self._section.interval_s

    @property
    def timeout_s(self) -> float:
        """How long CloudWatch may take to answer."""
        return self._section.timeout_s

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow."""
        declared(name).check("counter", labels)
        series = _series(name, labels)
        with self._lock:
            self._grown[series] = self._grown.get(series, 0.0) + amount

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        declared(name).check("gauge", labels)
        with self._lock:
            self._gauges[_series(name, labels)] = value

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram."""
        declared(name).check("histogram", labels)
        with self._lock:
            observed = self._observed.setdefault(_series(name, labels), Counter())
            if observed.total() < KEPT_OBSERVATIONS:
                observed[value] += 1

    def push(self) -> None:
        """Send what is new.

        Raises:
            DependencyUnreachable: CloudWatch is away, or does not take it; what did not arrive is
                sent by the next push.
            ConfigError: boto3 is not there, or no region, or a key cannot be read here.
        """
        client = self._connected()
        at = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
        with self._lock:
            grown = list(self._grown.items())
            gauges = list(self._gauges.items())
            observed = [
                (series, dict(part))
                for series, counts in self._observed.items()
                for part in _parts(list(counts.items()), PER_DATUM)
            ]
        for some in _parts(grown, PER_REQUEST):
            self._send(client, [_datum(one, at, Value=value) for one, value in some])
            self._forget_grown(some)
        for some in _parts(gauges, PER_REQUEST):
            self._send(client, [_datum(one, at, Value=value) for one, value in some])
        for some in _parts(observed, OBSERVED_PER_REQUEST):
            self._send(client, [_observations(one, at, counts) for one, counts in some])
            with self._lock:
                for series, counts in some:
                    self._observed[series] -= Counter(counts)

    def _forget_grown(self, sent: list[tuple[Series, float]]) -> None:
        with self._lock:
            for series, value in sent:
                left = self._grown[series] - value
                # A counter that stands still is not sent.
                if left:
                    self._grown[series] = left
                else:
                    del self._grown[series]

    def _connected(self) -> Any:
        """A client with the keys as they are now: they may be rotated."""
        section = self._section
        name: Any = section.access_key_id
        keys = (
            name.resolve() if isinstance(name, SecretRef) else name,
            None if section.secret_access_key is None else section.secret_access_key.resolve(),
            None if section.session_token is None else section.session_token.resolve(),
        )
        if any(key is not None and not (key.isascii() and key.isprintable()) for key in keys):
            # botocore's own message would hold it.
            raise ConfigError(
                "metrics cannot be sent to CloudWatch: a key has a character that no header may "
                "have",
                hint="is there a line break within a key of `metrics.cloudwatch`?",
            )
        if self._client is None or keys != self._known_by:
            self._client = _client(section, keys)
            self._known_by = keys
        return self._client

    def _send(self, client: Any, data: list[dict[str, Any]]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client.put_metric_data(Namespace=self._section.namespace, MetricData=data)
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            # The lines after the first one of a signature's error repeat the request's headers.
            first = str(error).partition("\n")[0]
            raise DependencyUnreachable(
                f"metrics cannot be sent to CloudWatch: {self._without_keys(first)[:_TOLD]}",
                hint="the run goes on; it needs the right cloudwatch:PutMetricData, see "
                "`metrics.cloudwatch`",
            ) from None

    def _without_keys(self, text: str) -> str:
        key_id, *secrets = self._known_by
        named = isinstance(self._section.access_key_id, SecretRef)
        return blotted(text, [key_id if named and key_id else "", *(one or "" for one in secrets)])


def _client(section: CloudWatch, keys: tuple[str | None, ...]) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigError(
            "metrics.cloudwatch needs boto3, which is not installed here",
            hint="pip install 'raylake[cloudwatch]' where the supervisor runs",
        ) from error
    key_id, key, token = keys
    patience = Config(
        connect_timeout=section.timeout_s,
        read_timeout=section.timeout_s,
        retries={"total_max_attempts": 2},
    )
    try:
        return boto3.session.Session().client(
            "cloudwatch",
            region_name=section.region,
            endpoint_url=section.endpoint,
            aws_access_key_id=key_id,
            aws_secret_access_key=key,
            aws_session_token=token,
            config=patience,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"metrics.cloudwatch: {error}", hint="give it `region`, or set AWS_REGION there"
        ) from error


def _series(name: str, labels: Labels) -> Series:
    return name, tuple(sorted(labels.items()))


def _parts(data: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _datum(series: Series, at: dt.datetime, **values: Any) -> dict[str, Any]:
    name, labels = series
    return {
        "MetricName": name,
        # An empty value is none for CloudWatch.
        "Dimensions": [{"Name": k, "Value": v or "-"} for k, v in labels],
        "Timestamp": at,
        "Unit": _unit(name),
        **values,
    }


def _observations(series: Series, at: dt.datetime, counts: dict[float, int]) -> dict[str, Any]:
    numbers = [float(number) for number in counts.values()]
    return _datum(series, at, Values=list(counts), Counts=numbers)


def _unit(name: str) -> str:
    told = name.removesuffix("_total").rpartition("_")[2]
    units = {"seconds": "Seconds", "bytes": "Bytes", "state": "None", "ratio": "None"}
    return units.get(told, "Count")
