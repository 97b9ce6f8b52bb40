"""A local broker whose listeners want credentials, and some that are set up wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka.admin import ACLOperation, ResourceType

from raylake.config.kafka import Security
from raylake.kafka.certificates import LOOPBACK, Authority, Validity
from raylake.kafka.connection import Connection
from raylake.kafka.dev import BrokerInfo, DevBroker
from raylake.kafka.dev_security import GUEST, LISTENERS, USER, DevSecurity, Listener, allowed
from tests.harness.broker import TIMEOUT_S, LiveBroker

PLAIN = ("PLAIN",)
WRONG = (
    Listener("FEW", "SASL_SSL", PLAIN),
    Listener("EXPIRED", "SASL_SSL", PLAIN, "expired.pem"),
    Listener("ELSEWHERE", "SASL_SSL", PLAIN, "elsewhere.pem"),
    Listener("STRANGER", "SASL_SSL", PLAIN, "stranger.pem"),
)


class WronglySecured(DevSecurity):
    """Also listeners with few mechanisms, and with certificates that must not be taken."""

    def certify_broker(self, authority: Authority) -> None:
        super().certify_broker(authority)
        stranger = Authority()
        expired = authority.issue("expired", LOOPBACK, Validity(ended_days_ago=1))
        made = {
            "expired.pem": expired,
            "elsewhere.pem": authority.issue("elsewhere", ("kafka.example.com",)),
            "stranger.pem": stranger.issue("stranger", LOOPBACK),
        }
        for name, parts in made.items():
            (self.folder / name).write_bytes(b"".join(parts))
        key, certificate = stranger.issue(USER)
        (self.folder / "stranger.key.pem").write_bytes(key)
        (self.folder / "stranger.certificate.pem").write_bytes(certificate)
        (self.folder / "stranger.ca.pem").write_bytes(stranger.certificate())


class SecuredBroker:
    """The broker, and how to reach each of its listeners."""

    def __init__(self, dev: DevBroker, info: BrokerInfo) -> None:
        self.dev = dev
        self.info = info
        self.security = dev.security
        self.live = LiveBroker(info.bootstrap, dev)

    def connection(
        self,
        mechanism: str | None = "SCRAM-SHA-512",
        user: str = USER,
        listener: str | None = None,
        **more: Any,
    ) -> Connection:
        """How a user reaches a listener; ``more`` overrides parts of ``kafka.security``."""
        section = {**self.security.snippet(mechanism, user), **more}
        kept = {name: value for name, value in section.items() if value is not None}
        where = listener or ("SSL" if mechanism is None else "SASL_SSL")
        return Connection(self.info.address(where), Security.model_validate(kept), 10.0)

    def let_guest(self, operation: ACLOperation, topic: str) -> None:
        """Give the guest one right on a topic."""
        self.live.admin.create_acls([allowed(GUEST, ResourceType.TOPIC, topic, operation)])


@contextmanager
def secured_broker() -> Iterator[SecuredBroker]:
    """A secured broker of this test's own, gone afterwards."""
    dev = DevBroker(instance=f"secured-{uuid.uuid4().hex[:8]}", secure=True)
    dev.security = WronglySecured(dev.security.folder, (*LISTENERS, *WRONG))
    try:
        made = SecuredBroker(dev, dev.up(TIMEOUT_S))
        yield made
        made.live.close()
    finally:
        dev.down(wipe=True)
