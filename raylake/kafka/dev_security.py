"""Listeners of the local broker that want credentials, and who may do what there.

Everything is made on the spot and for this machine only: an authority, the broker's and the users'
certificates, passwords, and the users' rights. Tokens are unsigned (``alg: none``), which Kafka
takes from anybody who reaches the listener: it is on loopback.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from raylake.errors import RayLakeError
from raylake.kafka.certificates import LOOPBACK, Authority, holds_until

USER: Final = "raylake"
GUEST: Final = "guest"
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_MODULES: Final = "org.apache.kafka.common.security"
_RENEW_BEFORE: Final = timedelta(days=30)
_TOKEN_S: Final = 825 * 24 * 3600
_ALL: Final = "*"
_RIGHTS: Final = (
    (ResourceType.TOPIC, _ALL, ACLOperation.ALL),
    (ResourceType.GROUP, _ALL, ACLOperation.ALL),
    (ResourceType.TRANSACTIONAL_ID, _ALL, ACLOperation.ALL),
    (ResourceType.CLUSTER, "kafka-cluster", ACLOperation.DESCRIBE),
    (ResourceType.CLUSTER, "kafka-cluster", ACLOperation.IDEMPOTENT_WRITE),
)


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of the broker that wants credentials.

    Attributes:
        name: Its name among the broker's listeners.
        protocol: ``SASL_SSL`` or ``SSL``; the latter wants a client's certificate.
        mechanisms: What SASL offers.
        certificate: The file of its key and certificate, below the folder.
    """

    name: str
    protocol: str
    mechanisms: tuple[str, ...] = ()
    certificate: str = "broker.pem"


LISTENERS: Final = (Listener("SASL_SSL", "SASL_SSL", MECHANISMS), Listener("SSL", "SSL"))


class DevSecurity:
    """What a secured local broker needs, in one folder that only its owner reads.

    Args:
        folder: Where certificates, passwords and tokens are.
        listeners: The addresses.
    """

    def __init__(self, folder: Path, listeners: Sequence[Listener] = LISTENERS) -> None:
        self.folder = folder
        self.listeners = tuple(listeners)
        self._granted = folder / "granted"

    @property
    def made(self) -> bool:
        """Whether the broker was started with these listeners before."""
        return (self.folder / "ca.pem").exists()

    @property
    def granted(self) -> bool:
        """Whether :meth:`grant` has come to its end since the broker started."""
        return self._granted.exists()

    def forget_grant(self) -> None:
        """The broker starts: its users and rights are made, or made sure of, again."""
        self._granted.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make what is missing; certificates that end within a month are made again, all of them.

        What was made keeps its place, so a pipeline file that names it goes on working.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for user in (USER, GUEST):
            password = self.folder / f"{user}.password"
            if not password.exists():
                _write(password, secrets.token_urlsafe(24).encode())
            _write(self.folder / f"{user}.token", unsigned_token(user).encode())
        if not self._certificates_hold():
            self._certify(Authority())

    def settings(self, ports: Mapping[str, int], host: str) -> dict[str, str]:
        """The broker's settings for these listeners and for its authorizer.

        Args:
            ports: The port of each listener.
            host: The address that they listen on and advertise.
        """
        found = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The plain listener and the controller are this machine's own.
            "super.users": "User:ANONYMOUS",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]*).*$/$1/,DEFAULT",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        for listener in self.listeners:
            found.update(self._listener(listener))
        own = [f"{one.name}://{host}:{ports[one.name]}" for one in self.listeners]
        found["listeners"] = found["advertised.listeners"] = ",".join(own)
        kinds = [f"{one.name}:{one.protocol}" for one in self.listeners]
        found["listener.security.protocol.map"] = ",".join(kinds)
        return found

    def grant(self, bootstrap: str) -> None:
        """Make the users, with all rights on topics and groups for one and none for the other.

        May be done again: what is there stays.

        Args:
            bootstrap: The broker's plain listener, whose anonymous user may do everything.

        Raises:
            RayLakeError: The broker refused.
        """
        refused: list[str] = []
        try:
            admin = KafkaAdminClient(bootstrap_servers=bootstrap)
            try:
                # Kafka takes a user once in a request.
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                    answers = admin.alter_user_scram_credentials(self._accounts(mechanism))
                    refused += [why for why in answers.values() if why]
                answer = admin.create_acls([allowed(USER, *right) for right in _RIGHTS])
            finally:
                admin.close()
        except KafkaError as error:
            raise RayLakeError(
                f"the local broker took no users or rights: {type(error).__name__}: {error}"
            ) from error
        refused += [str(one) for one in answer["failed"]]
        if refused:
            raise RayLakeError(f"the local broker took no users or rights: {'; '.join(refused)}")
        self._granted.touch(mode=0o600)

    def password(self, user: str) -> str:
        """The password of a user."""
        return (self.folder / f"{user}.password").read_text()

    def snippet(self, mechanism: str | None = "SCRAM-SHA-512", user: str = USER) -> dict[str, str]:
        """``kafka.security`` of a pipeline file; secrets are references.

        Args:
            mechanism: SASL's; None for a client's certificate.
            user: Who connects.
        """
        found = {"protocol": "SASL_SSL" if mechanism else "SSL"}
        if mechanism == "OAUTHBEARER":
            found |= {"mechanism": mechanism, "token": f"file:{self.folder / user}.token"}
        elif mechanism:
            password = f"file:{self.folder / user}.password"
            found |= {"mechanism": mechanism, "username": user, "password": password}
        found["ca"] = str(self.folder / "ca.pem")
        if mechanism is None:
            found |= {name: f"{self.folder / user}.{name}.pem" for name in ("certificate", "key")}
        return found

    def _accounts(self, mechanism: str) -> list[UserScramCredentialUpsertion]:
        return [
            UserScramCredentialUpsertion(user, mechanism, self.password(user))
            for user in (USER, GUEST)
        ]

    def _listener(self, listener: Listener) -> dict[str, str]:
        at = f"listener.name.{listener.name.lower()}"
        found = {
            f"{at}.ssl.keystore.type": "PEM",
            f"{at}.ssl.keystore.location": str(self.folder / listener.certificate),
            f"{at}.ssl.truststore.type": "PEM",
            f"{at}.ssl.truststore.location": str(self.folder / "ca.pem"),
            f"{at}.ssl.client.auth": "none" if listener.mechanisms else "required",
        }
        if listener.mechanisms:
            found[f"{at}.sasl.enabled.mechanisms"] = ",".join(listener.mechanisms)
        for mechanism in listener.mechanisms:
            found[f"{at}.{mechanism.lower()}.sasl.jaas.config"] = self._login(mechanism)
        return found

    def _login(self, mechanism: str) -> str:
        if mechanism == "PLAIN":
            users = " ".join(f'user_{user}="{self.password(user)}"' for user in (USER, GUEST))
            return f"{_MODULES}.plain.PlainLoginModule required {users};"
        if mechanism == "OAUTHBEARER":
            claim = 'unsecuredLoginStringClaim_sub="broker"'
            return f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required {claim};"
        return f"{_MODULES}.scram.ScramLoginModule required;"

    def _certificates_hold(self) -> bool:
        try:
            # The client's, since a listener of the broker's may have one that has ended.
            ends = [holds_until(self.folder / f"{user}.certificate.pem") for user in (USER, GUEST)]
            (self.folder / "broker.pem").stat()
        except (OSError, ValueError):
            return False
        return min(ends) > datetime.now(UTC) + _RENEW_BEFORE

    def _certify(self, authority: Authority) -> None:
        for user in (USER, GUEST):
            key, certificate = authority.issue(user)
            _write(self.folder / f"{user}.key.pem", key)
            _write(self.folder / f"{user}.certificate.pem", certificate)
        self.certify_broker(authority)
        _write(self.folder / "ca.pem", authority.certificate())

    def certify_broker(self, authority: Authority) -> None:
        """Make the certificates of the listeners."""
        _write(self.folder / "broker.pem", b"".join(authority.issue("raylake dev", LOOPBACK)))


def unsigned_token(subject: str, lives_s: int = _TOKEN_S) -> str:
    """A token of the kind that Kafka's own validator for development takes.

    Args:
        subject: Whose.
        lives_s: For how long it is valid, in seconds.
    """
    now_s = int(time.time())
    claims = {"sub": subject, "iat": now_s, "exp": now_s + lives_s}
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def allowed(user: str, kind: ResourceType, name: str, operation: ACLOperation) -> ACL:
    """The right of a user to do something with a resource, from everywhere."""
    where = ResourcePattern(kind, name)
    return ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, where)


def _part(value: Mapping[str, object]) -> str:
    text = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_suffix(f"{path.suffix}.tmp")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600)
    scratch.write_bytes(data)
    scratch.replace(path)
