"""The ``metrics`` and ``tracing`` sections: where a run's metrics and spans are sent."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from raylake.config.base import Model
from raylake.config.findings import Finding, Invalid
from raylake.config.kafka import PemFile
from raylake.config.secrets import SecretOrText, SecretRef
from raylake.config.units import Count, DurationS, Truth

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._/#:-]{1,255}")


def _url(text: str) -> str:
    scheme, _, host = text.partition("://")
    if scheme not in ("http", "https") or not host:
        raise Invalid(f"{text!r} is not a URL", "write https://host:9091")
    if "@" in host or "?" in host:
        raise Invalid("a URL holds no credentials and no query here", "see username, password")
    return text.rstrip("/")


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text) or text.startswith("AWS/"):
        raise Invalid(f"{text!r} is not a namespace of CloudWatch", "write RayLake")
    return text


Url = Annotated[str, AfterValidator(_url)]


class PushGateway(Model):
    """A Prometheus push gateway, for runs that end before they are scraped.

    Attributes:
        url: Of the gateway.
        job: The label ``job``; ``pipeline`` is the other one of the group that each push replaces.
        interval_s: Between two pushes; one more is made when the run ends.
        timeout_s: How long the gateway may take to answer.
        username: For a gateway behind basic authentication; text or a reference.
        password: With it.
        token: A bearer token instead.
        ca: PEM file of the authorities that its certificate is checked against; the system's own
            list when there is none.
        allow_password_without_tls: Says by name that credentials may cross the network in clear.
    """

    url: Url
    job: str = Field(default="raylake", min_length=1)
    interval_s: DurationS = Field(default=15.0, alias="interval")
    timeout_s: DurationS = Field(default=5.0, alias="timeout")
    username: SecretOrText | None = None
    password: SecretRef | None = None
    token: SecretRef | None = None
    ca: PemFile | None = None
    allow_password_without_tls: Truth = False

    @model_validator(mode="after")
    def _fits_together(self) -> PushGateway:
        found = []
        if (self.username is None) != (self.password is None):
            found.append(Finding((), "basic authentication is both: username and password"))
        if self.token is not None and self.username is not None:
            found.append(Finding(("token",), "a token takes the place of username and password"))
        known = self.token is not None or self.username is not None
        if known and self.url.startswith("http:") and not self.allow_password_without_tls:
            hint = "use https://, or say allow_password_without_tls: true"
            found.append(Finding(("url",), "http:// would send the credentials without TLS", hint))
        if self.ca is not None and self.url.startswith("http:"):
            found.append(Finding(("ca",), "http:// is without TLS: ca has no effect"))
        if found:
            raise Invalid("", findings=found)
        return self


class CloudWatch(Model):
    """Amazon CloudWatch. What is left out of region and key comes from where AWS's tools look.

    Attributes:
        namespace: What the metrics are filed under.
        region: Of the endpoint.
        endpoint: The server's URL; left out: AWS's own.
        access_key_id: The key's name; text or a reference.
        secret_access_key: The key.
        session_token: Of a temporary key.
        interval_s: Between two pushes; one more is made when the run ends.
        timeout_s: How long it may take to answer.
    """

    namespace: Annotated[str, AfterValidator(_namespace)] = "RayLake"
    region: str | None = None
    endpoint: Url | None = None
    access_key_id: SecretOrText | None = None
    secret_access_key: SecretRef | None = None
    session_token: SecretRef | None = None
    interval_s: DurationS = Field(default=60.0, alias="interval")
    timeout_s: DurationS = Field(default=5.0, alias="timeout")

    @model_validator(mode="after")
    def _key_is_whole(self) -> CloudWatch:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise Invalid("a key is both: access_key_id and secret_access_key", "write env:NAME")
        return self


class MetricsOut(Model):
    """Where metrics are sent, beside ``/metrics`` (``ingest.http``) and Ray's own."""

    push_gateway: PushGateway | None = None
    cloudwatch: CloudWatch | None = None


class Tracing(Model):
    """Spans by OpenTelemetry; exporter and sampler are those of the ``OTEL_…`` variables.

    Attributes:
        enabled: Left out: where an ``OTEL_…`` variable of the process names an exporter.
        links: At most so many ``traceparent`` headers of its records does a hand-over link to.
    """

    enabled: Truth | None = None
    links: Count = 16
