"""Secrets are references; the value exists only where it is used.

A reference travels through arguments, files, logs and ``repr`` as it was written. Its value is
read by :meth:`SecretRef.resolve`, on the node that needs it, and is kept nowhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.functional_validators import PlainValidator
from pydantic_core import CoreSchema, core_schema

from raylake.config.findings import Invalid
from raylake.errors import ConfigError

SecretKind = Literal["env", "file", "profile"]
PROFILES_VARIABLE: Final = "RAYLAKE_PROFILES"
MAX_SECRET_BYTES: Final = 65_536
_ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROFILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HINT: Final = "write env:NAME, file:/path or profile:NAME; the value stays out of the file"
_REFERENCE: Final = r"^(?:env:[A-Za-z_]\w*|file:/.+|profile:[A-Za-z0-9_][A-Za-z0-9_.-]*)$"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is: ``env:NAME``, ``file:/path`` or ``profile:NAME``.

    Attributes:
        kind: The kind of place.
        name: The variable, the absolute path or the profile's entry.
    """

    kind: SecretKind
    name: str

    @classmethod
    def parse(cls, text: object) -> SecretRef:
        """The reference that ``text`` spells.

        Raises:
            Invalid: It is not a reference; the message does not repeat the text, which may be a
                secret.
        """
        if isinstance(text, SecretRef):
            return text
        kind, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not colon or kind not in ("env", "file", "profile"):
            raise Invalid("a secret is a reference, never the value itself", _HINT)
        if kind == "env" and _ENV.fullmatch(name):
            return cls("env", name)
        if kind == "file" and name.startswith("/") and "\0" not in name:
            return cls("file", name)
        if kind == "profile" and _PROFILE.fullmatch(name):
            return cls("profile", name)
        raise Invalid(f"this {kind}: reference names nothing usable", _HINT)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    def __repr__(self) -> str:
        return f"SecretRef({str(self)!r})"

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret's value, read now, on this machine.

        Args:
            environ: The variables; the process's own when None.

        Raises:
            ConfigError: The variable is not set or empty, the file cannot be read, or the profile
                has no such entry. The message names the reference, never a value.
        """
        variables = os.environ if environ is None else environ
        if self.kind == "env":
            value = variables.get(self.name, "")
            if not value:
                raise self._missing(f"the variable {self.name} is not set or empty here")
            return value
        if self.kind == "file":
            value = self._read(Path(self.name))
            if not value:
                raise self._missing(f"{self.name} is empty")
            return value
        return self._from_profile(variables)

    def _read(self, path: Path, *, private: bool = False) -> str:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self._missing(f"{path} cannot be read: {reason}") from None
        if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise self._missing(f"{path} can be read by others: chmod 600 {path}")
        if len(raw) > MAX_SECRET_BYTES:
            raise self._missing(f"{path} is larger than {MAX_SECRET_BYTES} bytes")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._missing(f"{path} is not UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")

    def _from_profile(self, variables: Mapping[str, str]) -> str:
        path = Path(variables.get(PROFILES_VARIABLE) or "~/.raylake/profiles.yaml").expanduser()
        text = self._read(path, private=True)
        try:
            entries = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  (text only, no objects)
        except (yaml.YAMLError, ValueError):
            raise self._missing(f"{path} is not YAML") from None
        value = entries.get(self.name) if isinstance(entries, dict) else None
        if not isinstance(value, str) or not value:
            raise self._missing(f"{path} has no entry {self.name}")
        return value

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(
            f"the secret {self} cannot be resolved: {why}",
            hint="references are resolved on the node that uses them: provide it there",
            secret=str(self),
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": _REFERENCE, "examples": ["env:NAME", "file:/path"]}


def references(value: Any) -> Iterator[SecretRef]:
    """Every reference within a section of the configuration, as often as it stands there."""
    if isinstance(value, SecretRef):
        yield value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from references(getattr(value, field))
    elif isinstance(value, dict):
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from references(one)


def _reference_or_text(value: Any) -> SecretRef | str:
    if isinstance(value, SecretRef):
        return value
    if not isinstance(value, str) or not value:
        raise Invalid("this is text, or a reference such as env:NAME")
    if value.startswith(("env:", "file:", "profile:")):
        return SecretRef.parse(value)
    return value


SecretOrText = Annotated[
    SecretRef | str, PlainValidator(_reference_or_text), WithJsonSchema({"type": "string"})
]
"""Text that need not be secret (a user name), or a reference to it."""
