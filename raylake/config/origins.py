"""Where each value of a loaded configuration comes from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel

from raylake.config.base import keys_of
from raylake.config.findings import Loc, dotted
from raylake.config.positions import Parsed
from raylake.config.units import Ratio, format_duration, format_ratio, format_size

DEFAULT = "default"
_RATIO: Final = get_args(Ratio)[-1]


def origins(
    config: BaseModel, data: Mapping[str, Any], parsed: Parsed, places: Mapping[Loc, str], name: str
) -> dict[str, str]:
    """The origin of every value, containers included, by its dotted key.

    Args:
        config: The validated model.
        data: The plain data that it was made of.
        parsed: The file.
        places: Where variables and flags stand above the file.
        name: The file's name, as messages give it.
    """

    def origin(loc: Loc) -> str:
        for end in range(len(loc), 0, -1):
            if loc[:end] in places:
                return places[loc[:end]]
            at = parsed.values.get(loc[:end])
            if at is not None:
                return f"{name}:{at.line}:{at.column}"
        return DEFAULT

    return {
        dotted(loc): origin(loc) if given else DEFAULT for loc, given in _walk(config, data, ())
    }


def written(config: BaseModel) -> dict[str, str]:
    """Durations, sizes, ratios and moments as a file has them, with units, by their dotted keys."""
    return dict(_written(config, ()))


def _written(value: Any, loc: Loc) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        for key, name in keys_of(type(value)).items():
            child = getattr(value, name)
            text = _with_unit(name, child, type(value).model_fields[name].metadata)
            if text is None:
                yield from _written(child, (*loc, key))
            else:
                yield dotted((*loc, key)), text
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _written(item, (*loc, str(key)))
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _written(item, (*loc, i))


def _with_unit(name: str, value: Any, metadata: Sequence[Any]) -> str | None:
    if not isinstance(value, int | float):
        return None
    if name.endswith("_s"):
        return format_duration(value)
    if name.endswith("_bytes"):
        return format_size(int(value))
    if name == "timestamp_ms":
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=value)
        return moment.isoformat().replace("+00:00", "Z")
    return format_ratio(value) if _RATIO in metadata else None


def _walk(value: Any, raw: Any, loc: Loc, *, given: bool = True) -> Iterator[tuple[Loc, bool]]:
    if loc:
        yield loc, given
    if isinstance(value, BaseModel):
        for key, name in keys_of(type(value)).items():
            child = raw.get(key) if isinstance(raw, Mapping) else None
            here = given and (not isinstance(raw, Mapping) or child is not None)
            yield from _walk(getattr(value, name), child, (*loc, key), given=here)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            child = raw.get(str(key)) if isinstance(raw, Mapping) else None
            yield from _walk(item, child, (*loc, str(key)), given=given)
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            child = raw[i] if isinstance(raw, list) and i < len(raw) else None
            yield from _walk(item, child, (*loc, i), given=given)
