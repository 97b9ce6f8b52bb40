"""The places that a pipeline's metrics are sent to, from its file."""

from __future__ import annotations

from dataclasses import dataclass

from raylake.clock import Clock
from raylake.config.models import Pipeline
from raylake.telemetry.cloudwatch import CloudWatchTarget
from raylake.telemetry.metrics import Both, Metrics
from raylake.telemetry.prometheus import PrometheusMetrics
from raylake.telemetry.push_gateway import GatewayTarget
from raylake.telemetry.pushing import Pushers, PushTarget


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the samples of a run go.

    Attributes:
        served: What ``/metrics`` serves.
        metrics: Takes samples for all of them.
        pushers: Send them on.
    """

    served: PrometheusMetrics
    metrics: Metrics
    pushers: Pushers

    @classmethod
    def of(cls, config: Pipeline, clock: Clock) -> Outlets:
        """As the pipeline file says."""
        served = PrometheusMetrics()
        metrics: Metrics = served
        targets: list[PushTarget] = []
        gateway, cloudwatch = config.metrics.push_gateway, config.metrics.cloudwatch
        if gateway is not None:
            targets.append(GatewayTarget(gateway, served.registry, config.pipeline))
        if cloudwatch is not None:
            target = CloudWatchTarget(cloudwatch, clock)
            targets.append(target)
            metrics = Both(metrics, target)
        return cls(served, metrics, Pushers(targets, clock))
