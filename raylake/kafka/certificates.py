"""Certificates of an authority of its own, for brokers that listen on loopback only."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_AUTHORITY: Final = "RayLake local authority"
_BEFORE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds.

    Attributes:
        days: For how long from yesterday on.
        ended_days_ago: When above zero, it held until then.
    """

    days: int = 825
    ended_days_ago: int = 0

    def span(self) -> tuple[datetime, datetime]:
        """Start and end, in UTC."""
        end = datetime.now(UTC) + timedelta(days=self.days)
        if self.ended_days_ago:
            end = datetime.now(UTC) - timedelta(days=self.ended_days_ago)
        return min(datetime.now(UTC) - _BEFORE, end - timedelta(days=30)), end


class Authority:
    """Signs certificates with a key that lives as long as this object, and is kept nowhere."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Two of one name would be taken for one whose signature is wrong.
        self._name = _named(f"{_AUTHORITY} {secrets.token_hex(4)}")
        start, end = Validity().span()
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key(), (start, end))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def certificate(self) -> bytes:
        """The authority's own certificate, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, hosts: tuple[str, ...] = (), validity: Validity | None = None
    ) -> tuple[bytes, bytes]:
        """A new key and a certificate for it, both as PEM.

        Args:
            name: Who it stands for.
            hosts: The host names and addresses of a server; a certificate without is a client's.
            validity: When it holds.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        span = (validity or Validity()).span()
        use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        made = (
            _builder(_named(name), self._name, key.public_key(), span)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = [_general(host) for host in hosts]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return private, signed.public_bytes(serialization.Encoding.PEM)


def holds_until(path: Path) -> datetime:
    """When the first certificate of a PEM file ends, in UTC.

    Raises:
        ValueError: There is none in it.
        OSError: It cannot be read.
    """
    return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    span: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0])
        .not_valid_after(span[1])
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
