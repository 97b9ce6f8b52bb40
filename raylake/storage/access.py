"""How this process reaches object stores: one client per bucket and access, opened when used.

References to keys are resolved again now and then, and when a store refuses: who rotates keys
writes the new ones to where the references point, and no process is started again for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from obstore.exceptions import BaseError
from obstore.store import from_url

from raylake.config.secrets import SecretRef
from raylake.config.stores import StoreAccess, Stores, access_to, check_stores
from raylake.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 30.0
"""How long a client is used before its keys are looked at again."""
REFUSED_AGAIN_S: Final = 1.0
"""The same while the store refuses."""
REQUEST_TIMEOUT_S: Final = 20
CONNECT_TIMEOUT_S: Final = 5
REQUEST_RETRIES: Final = 2
RETRIES_WITHIN_S: Final = 10
_OPTIONS: Final = {
    "s3": {
        "endpoint": "aws_endpoint",
        "region": "aws_region",
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    },
    "gs": {"endpoint": "google_base_url", "service_account": "google_service_account_key"},
    "az": {
        "endpoint": "azure_storage_endpoint",
        "account": "azure_storage_account_name",
        "account_key": "azure_storage_account_key",
        "sas_token": "azure_storage_sas_key",
        "tenant_id": "azure_storage_tenant_id",
        "client_id": "azure_storage_client_id",
        "client_secret": "azure_storage_client_secret",
    },
}
_known: dict[str, StoreAccess] = {}
_of_request: ContextVar[Stores | None] = ContextVar("stores of a request", default=None)


@dataclass(eq=False, slots=True)
class Reached:
    """A bucket as it is reached with certain keys; another object stands for other keys.

    Attributes:
        client: Its client.
        options: What the client was opened with; holds secrets.
        looked_at_s: When the references were resolved last, on the monotonic clock.
        trouble: Why it stays in use although other keys were looked for; empty for nothing.
    """

    client: Any
    options: Mapping[str, str] = field(repr=False)
    looked_at_s: float
    trouble: str = ""


_reached: dict[tuple[str, StoreAccess], Reached] = {}
_reaching = threading.Lock()


def use_stores(stores: Stores) -> None:
    """Let this process reach object stores like this; once, before it touches one.

    Addresses travel between processes as plain text and secrets not at all, so each process of a
    run says this for itself.
    """
    _known.clear()
    _known.update(stores)
    forget_clients()


def also_use_stores(stores: Stores) -> None:
    """Let this process reach further stores; what it was told of other addresses stays."""
    _known.update(stores)


@contextmanager
def stores_of_request(stores: Stores) -> Iterator[None]:
    """Reach object stores like this, and in no other way, within the block and in its thread.

    For processes that serve several clients, each with stores and keys of its own; what the process
    was told for itself does not count meanwhile.
    """
    token = _of_request.set(dict(stores))
    try:
        yield
    finally:
        _of_request.reset(token)


def used_stores() -> dict[str, Any]:
    """What :func:`use_stores` was told, as plain data with references: for another process."""
    return stores_json(_now())


def stores_json(stores: Stores) -> dict[str, Any]:
    """Stores as plain data with references."""
    return {
        address: access.model_dump(mode="json", exclude_defaults=True)
        for address, access in stores.items()
    }


def _now() -> Stores:
    found = _of_request.get()
    return _known if found is None else found


def stores_from_json(data: Mapping[str, Any]) -> dict[str, StoreAccess]:
    """Read back what :func:`used_stores` gave."""
    return check_stores({name: StoreAccess.model_validate(one) for name, one in data.items()})


def forget_clients() -> None:
    """Open clients anew, with secrets read anew."""
    with _reaching:
        _reached.clear()


def access_of(address: str) -> StoreAccess:
    """How an address is reached."""
    return access_to(address, _now())


def client_of(address: str) -> Any:
    """The client of the bucket that an address lies in.

    Raises:
        ConfigError: A secret cannot be resolved here.
    """
    return reached(address).client


def reached(address: str, *, refused: bool = False) -> Reached:
    """How the bucket of an address is reached now: as before, while other keys cannot be used.

    Args:
        address: The address.
        refused: The store refused: its keys are looked at now, once in
            :data:`REFUSED_AGAIN_S`.

    Raises:
        ConfigError: A secret cannot be resolved here, or no client takes it, and this process has
            reached the bucket with no other.
    """
    bucket, access = bucket_of(address), access_of(address)
    with _reaching:
        found = _reached.get((bucket, access))
        now_s = time.monotonic()
        if found is not None:
            if now_s < found.looked_at_s + (REFUSED_AGAIN_S if refused else LOOK_AGAIN_S):
                return found
            found.looked_at_s = now_s
        try:
            now = _looked_at(bucket, access, found, now_s)
        except ConfigError as error:
            if found is None:
                raise
            if found.trouble != error.message:
                found.trouble = error.message
                log.warning("%s: the keys in use stay: %s", bucket, error.message)
            return found
        now.trouble = ""
        if found is not None and now is not found:
            log.info("%s: its keys were changed; the new ones are used", bucket)
        _reached[bucket, access] = now
        return now


def bucket_of(address: str) -> str:
    """``scheme://bucket`` of an address."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def delta_options(address: str) -> dict[str, str]:
    """What delta-rs needs to reach an address; holds secrets: for its constructor only.

    Raises:
        ConfigError: As :func:`reached`, whose keys these are.
    """
    return {
        **reached(address).options,
        "allow_http": str(access_of(address).allow_http).lower(),
        "timeout": f"{REQUEST_TIMEOUT_S}s",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "max_retries": str(REQUEST_RETRIES),
        "retry_timeout": f"{RETRIES_WITHIN_S}s",
    }


def _looked_at(bucket: str, access: StoreAccess, found: Reached | None, now_s: float) -> Reached:
    """The bucket with the keys that the references give now; what was found where they are its."""
    try:
        options = _resolved(bucket, access)
        if found is not None and found.options == options:
            return found
        return Reached(_client(bucket, access, options), options, now_s)
    except OSError as error:
        # Never as it is: FileNotFoundError would say that an object is not there.
        raise ConfigError(
            f"{bucket} cannot be opened: {error}", hint="see the section `stores`"
        ) from None


def _client(bucket: str, access: StoreAccess, options: Any) -> Any:
    # The stubs know the options of each store apart; here they are one mapping.
    try:
        return from_url(
            bucket,
            config=options,
            client_options={
                "allow_http": access.allow_http,
                "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            },
            retry_config={
                "max_retries": REQUEST_RETRIES,
                "retry_timeout": timedelta(seconds=RETRIES_WITHIN_S),
            },
        )
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(
            f"{bucket} cannot be opened: {reason}", hint="see the section `stores`"
        ) from None


def _resolved(bucket: str, access: StoreAccess) -> dict[str, str]:
    scheme = bucket.partition("://")[0]
    found = {}
    for name, option in _OPTIONS["az" if scheme == "abfss" else scheme].items():
        value = getattr(access, name)
        if value is not None:
            found[option] = value.resolve() if isinstance(value, SecretRef) else str(value)
    if scheme == "s3":
        found["aws_virtual_hosted_style_request"] = str(not access.path_style).lower()
    return found
