"""What refuses us is told by its name, and what the broker said last is not lost."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.net.transport import KafkaTCPTransport

from raylake.config.kafka import Security
from raylake.errors import AccessDenied
from raylake.kafka.access import denied, refusal
from raylake.kafka.certificates import Authority, Validity, holds_until
from raylake.kafka.dev_security import GUEST, MECHANISMS, USER, DevSecurity, unsigned_token
from raylake.kafka.transport import CarefulTlsTransport, CarefulTransport

pytestmark = pytest.mark.spec("A9")
SCRAM = Security.model_validate(
    {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-256", "username": "u", "password": "env:P"}
)


class _Wire:
    """A socket that has these parts to give, and then an end."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)

    def recv(self, size: int) -> bytes:
        part = self._parts.pop(0) if self._parts else b""
        assert len(part) <= size
        return part

    def getpeername(self) -> Any:
        raise OSError

    def pending(self) -> int:
        """TLS: bytes of the record that was begun; an end comes with the last of them here."""
        return 1


@pytest.mark.parametrize("kind", [CarefulTransport, CarefulTlsTransport])
def test_what_came_before_the_end_is_delivered_and_then_the_end(kind: Any) -> None:
    transport = kind.__new__(kind)
    # Without TLS's own constructor, which wraps a real socket.
    KafkaTCPTransport.__init__(transport, None, _Wire(b"you may not"))
    assert transport._sock_recv() == (b"you may not", None)
    data, error = transport._sock_recv()
    assert data == b""
    assert isinstance(error, kafka_errors.KafkaConnectionError)


@pytest.mark.parametrize(
    ("error", "says", "hint"),
    [
        (
            kafka_errors.TopicAuthorizationFailedError({"orders"}),
            "user 'u' has no right on topic 'orders', while fetching",
            "--operation Describe --topic 'orders'",
        ),
        (
            kafka_errors.GroupAuthorizationFailedError(
                "FindCoordinatorResponse error for GROUP/billing: "
            ),
            "user 'u' has no right on group 'billing', while fetching",
            "--group 'billing'",
        ),
        (
            kafka_errors.ClusterAuthorizationFailedError("x"),
            "user 'u' has no right for this (ClusterAuthorizationFailedError 'x'), while fetching",
            "ACLs",
        ),
        (
            kafka_errors.SaslAuthenticationFailedError("said so"),
            "h:1 refused the credentials of user 'u' by SCRAM-SHA-256 (said so), while fetching",
            "check kafka.security",
        ),
        (
            kafka_errors.IllegalSaslStateError(),
            "h:1 takes no SASL, but kafka.security.protocol is SASL_SSL, while fetching",
            "SASL listener",
        ),
    ],
)
def test_a_refusal_says_who_what_and_what_to_do(error: Any, says: str, hint: str) -> None:
    found = denied(error, SCRAM, "h:1", "fetching")
    assert isinstance(found, AccessDenied)
    assert found.message == says
    assert hint in found.hint


def test_a_failure_that_may_pass_is_no_refusal() -> None:
    passing = kafka_errors.KafkaConnectionError(ConnectionResetError("reset"))
    assert refusal(passing, "h:1") is None
    assert refusal(None, "h:1") is None
    assert denied(passing, SCRAM, "h:1", "fetching") is None


def test_the_folder_of_a_secured_broker_is_its_owners_and_its_passwords_stay(
    tmp_path: Path,
) -> None:
    security = DevSecurity(tmp_path / "security")
    assert not security.made
    security.prepare()
    assert security.made
    passwords = [security.password(user) for user in (USER, GUEST)]
    ca = (security.folder / "ca.pem").read_bytes()
    assert len(set(passwords)) == 2
    for path in [security.folder, *security.folder.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    security.prepare()
    assert [security.password(user) for user in (USER, GUEST)] == passwords
    assert (security.folder / "ca.pem").read_bytes() == ca


def test_certificates_that_end_soon_are_made_again(tmp_path: Path) -> None:
    security = DevSecurity(tmp_path)
    security.prepare()
    certificate = tmp_path / f"{USER}.certificate.pem"
    certificate.write_bytes(Authority().issue(USER, (), Validity(days=10))[1])
    ca, soon = (tmp_path / "ca.pem").read_bytes(), holds_until(certificate)
    security.prepare()
    assert (tmp_path / "ca.pem").read_bytes() != ca
    assert holds_until(certificate) > soon


def test_what_is_printed_for_each_way_in_is_a_section_that_loads(tmp_path: Path) -> None:
    security = DevSecurity(tmp_path)
    security.prepare()
    for mechanism in (*MECHANISMS, None):
        section = security.snippet(mechanism)
        loaded = Security.model_validate(section)
        assert loaded.mechanism == mechanism
        assert security.password(USER) not in json.dumps(section)


def test_a_token_for_development_is_unsigned_and_ends() -> None:
    head, claims, signature = unsigned_token("me", lives_s=60).split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, claims)]
    assert decoded[0] == {"alg": "none"}
    assert decoded[1]["sub"] == "me"
    assert decoded[1]["exp"] == decoded[1]["iat"] + 60
    assert signature == ""
