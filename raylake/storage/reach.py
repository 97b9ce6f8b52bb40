"""Whether a store can be reached as configured, said in the words of its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from raylake.config.stores import StoreAccess
from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.storage.access import access_of, bucket_of
from raylake.storage.objects import BucketMissing, StoreDenied, StoreError, StorePath
from raylake.storage.place import Place

_WRONG_KEY: Final = {
    "InvalidAccessKeyId": "the store does not know this access_key_id",
    "SignatureDoesNotMatch": "secret_access_key does not belong to access_key_id",
    "ExpiredToken": "session_token has expired",
    "InvalidToken": "session_token is not valid",
}
_WRONG_REGION: Final = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocation")
_REDIRECT: Final = (301, 307)
_REDIRECTED: Final = "redirect without LOCATION"


def require_store(at: StorePath) -> None:
    """Ask the store for something small, and say what is wrong where it refuses.

    Raises:
        ConfigError: The bucket is not there, or region or keys are wrong.
        DependencyUnreachable: Nobody answers at the endpoint, or not now.
    """
    try:
        (at / ".raylake-probe").names()
    except OSError as error:
        raise explained(at, error) from error


def require_stores(addresses: Iterable[str]) -> None:
    """:func:`require_store` for each bucket among the addresses of a pipeline."""
    found = {bucket_of(one): one for one in addresses if "://" in one}
    for address in found.values():
        require_store(StorePath(address))


@contextmanager
def explaining(at: StorePath) -> Iterator[None]:
    """Says what the store's trouble is; that something is not there stays as it is.

    Raises:
        ConfigError, DependencyUnreachable: As :func:`explained`.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explained(at, error) from error


@contextmanager
def reading(at: Place) -> Iterator[None]:
    """Says why what somebody else wrote cannot be read; that it is not there stays as it is.

    Raises:
        ConfigError: This user, or these keys, may not read it.
        DependencyUnreachable: The store does not answer.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if isinstance(at, StorePath):
            raise explained(at, error) from error
        raise ConfigError(
            f"{at}: cannot be read: {error.strerror or error}", hint="may this user read it?"
        ) from error


def explained(at: StorePath, error: OSError) -> RayLakeError:
    """What an error of a store means for its configuration."""
    bucket, access = bucket_of(at.address), access_of(at.address)
    whole = f"{bucket}{_where(access)}"
    if isinstance(error, BucketMissing):
        return ConfigError(
            f"{whole}: there is no such bucket",
            hint="create it, or correct the address in the pipeline file",
        )
    code, status = getattr(error, "code", ""), getattr(error, "status", 0)
    if code in _WRONG_REGION or status in _REDIRECT or _REDIRECTED in str(error):
        return ConfigError(
            f"{whole}: the bucket is in another region: {_reason(error)}",
            hint=f"set `region` of {bucket} in the section `stores`",
        )
    if isinstance(error, StoreDenied) or code in _WRONG_KEY:
        said = _WRONG_KEY.get(code, "these keys may not do that there")
        return ConfigError(
            f"{whole}: {said}: {_reason(error)}",
            hint=f"check the keys of {bucket} in the section `stores`, and that they may list, "
            "get, put and delete below the lake",
        )
    if isinstance(error, StoreError) and not status:
        return DependencyUnreachable(
            f"{whole}: nobody answers: {_reason(error)}",
            hint=f"is `endpoint` of {bucket} right, and can it be reached from this machine?",
        )
    return DependencyUnreachable(
        f"{whole}: {_reason(error)}", hint="try again when the store is well"
    )


def _where(access: StoreAccess) -> str:
    return f" at {access.endpoint}" if access.endpoint else ""


def _reason(error: OSError) -> str:
    return str(error).partition(": ")[2] or str(error)
