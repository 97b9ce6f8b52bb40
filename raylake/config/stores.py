"""The ``stores`` section: how object stores are reached, by the beginning of an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raylake.config.addresses import is_local, normalise_table_address
from raylake.config.base import Model
from raylake.config.findings import Finding, Invalid
from raylake.config.secrets import SecretOrText, SecretRef
from raylake.config.units import Truth

_OF_SCHEME: Final[dict[str, tuple[str, ...]]] = {
    "s3": (
        "endpoint",
        "region",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "path_style",
    ),
    "gs": ("service_account", "endpoint"),
    "az": (
        "account",
        "account_key",
        "sas_token",
        "tenant_id",
        "client_id",
        "client_secret",
        "endpoint",
    ),
}
_WHO: Final = frozenset(
    [
        *("access_key_id", "secret_access_key", "session_token", "service_account"),
        *("account_key", "sas_token", "tenant_id", "client_id", "client_secret"),
    ]
)
_OF_SCHEME["abfss"] = _OF_SCHEME["az"]


class StoreAccess(Model):
    """How one store is reached; keys are references, read on the node that uses them.

    What is left out comes from where the cloud's own tools look: ``AWS_…`` variables, the
    instance's role, a workload identity.

    Attributes:
        endpoint: The server's URL; left out: the cloud's own.
        region: S3: the bucket's region; ``us-east-1`` when neither this nor the machine says one.
        access_key_id: S3: the key's name; text or a reference.
        secret_access_key: S3: the key.
        session_token: S3: of a temporary key.
        path_style: S3: the bucket is the first part of the path (most compatible servers want it);
            false: it is part of the host name.
        service_account: GCS: the account's JSON key.
        account: Azure: the storage account.
        account_key: Azure: the account's key.
        sas_token: Azure: a shared access signature.
        tenant_id: Azure: with client_id and client_secret.
        client_id: Azure.
        client_secret: Azure.
        allow_http: Says by name that requests may cross the network without TLS.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key_id: SecretOrText | None = None
    secret_access_key: SecretRef | None = None
    session_token: SecretRef | None = None
    path_style: Truth = True
    service_account: SecretRef | None = None
    account: str | None = None
    account_key: SecretRef | None = None
    sas_token: SecretRef | None = None
    tenant_id: str | None = None
    client_id: SecretOrText | None = None
    client_secret: SecretRef | None = None
    allow_http: Truth = False

    def findings(self, scheme: str) -> list[Finding]:
        """What does not fit together, or to a store of this scheme."""
        known = (*_OF_SCHEME[scheme], "allow_http")
        found = [
            Finding((name,), f"{name} says nothing to a {scheme}:// store", f"it has {known}")
            for name in sorted(self.model_fields_set - set(known))
        ]
        if (self.access_key_id is None) != (self.secret_access_key is None):
            found.append(
                Finding((), "a key is both: access_key_id and secret_access_key", "write env:NAME")
            )
        if self.endpoint is not None:
            found += _endpoint(self.endpoint, allow_http=self.allow_http)
        return found


def _endpoint(endpoint: str, *, allow_http: bool) -> list[Finding]:
    at = ("endpoint",)
    scheme, _, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not host:
        return [Finding(at, f"{endpoint!r} is not a URL", "write https://host:9000")]
    if "@" in host or "?" in host:
        return [Finding(at, "an endpoint holds no credentials and no query", "see access_key_id")]
    if scheme == "http" and not allow_http:
        hint = "use https://, or say allow_http: true"
        return [Finding(at, "http:// would send the data without TLS", hint)]
    return []


Stores = Mapping[str, StoreAccess]


def check_stores(stores: dict[str, StoreAccess]) -> dict[str, StoreAccess]:
    """The stores with normalised addresses.

    Raises:
        Invalid: An address is local, or what a store is given does not fit it; all at once.
    """
    found: list[Finding] = []
    checked: dict[str, StoreAccess] = {}
    for text, access in stores.items():
        try:
            address = normalise_table_address(text)
        except Invalid as error:
            found += [Finding((text,), f.message, f.hint, on_key=True) for f in error.findings]
            continue
        if is_local(address):
            message = f"{text} is not the address of a store"
            found.append(Finding((text,), message, "write s3://bucket/folder", on_key=True))
            continue
        scheme = address.partition("://")[0]
        found += [
            Finding((text, *f.at), f.message, f.hint, f.on_key) for f in access.findings(scheme)
        ]
        checked[address] = access
    if found:
        raise Invalid("", findings=found)
    return checked


def access_to(address: str, stores: Stores) -> StoreAccess:
    """What the entries whose addresses ``address`` lies below say together.

    The longest address wins key by key; keys that say who we are win as a whole.
    """
    said: dict[str, Any] = {}
    for one in sorted(stores, key=len):
        if address != one and not address.startswith(f"{one}/"):
            continue
        given = {name: getattr(stores[one], name) for name in stores[one].model_fields_set}
        if given.keys() & _WHO:
            said = {name: value for name, value in said.items() if name not in _WHO}
        said |= given
    return StoreAccess().model_copy(update=said)
