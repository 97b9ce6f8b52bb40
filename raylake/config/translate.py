"""What pydantic says, in our words: keys as in the file, hints, and the nearest known name."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from raylake.config.base import keys_of
from raylake.config.elsewhere import elsewhere
from raylake.config.findings import Finding, Invalid, Loc, did_you_mean
from raylake.config.models import Pipeline
from raylake.config.problems import is_secret
from raylake.config.units import kind_of

_WANTED = {
    "string_type": ("text", "put it in quotes"),
    "int_type": ("a whole number", ""),
    "int_parsing": ("a whole number", ""),
    "int_from_float": ("a whole number", ""),
    "int_parsing_size": ("a whole number of a sensible size", ""),
    "float_type": ("a number", ""),
    "float_parsing": ("a number", ""),
    "model_type": ("a mapping", "write the keys below it, indented"),
    "model_attributes_type": ("a mapping", "write the keys below it, indented"),
    "dict_type": ("a mapping", "write the keys below it, indented"),
    "tuple_type": ("a list", "write [a, b]"),
    "list_type": ("a list", "write [a, b]"),
}


def findings(error: ValidationError) -> Iterator[Finding]:
    """The findings of a validation; locations are keys of the file and list indices."""
    details = error.errors(include_url=False)
    places = [tuple(detail["loc"]) for detail in details]
    for detail in details:
        at = tuple(detail["loc"])
        # A list whose every item is refused also counts as empty; that says nothing new.
        inner = any(len(p) > len(at) and p[: len(at)] == at for p in places)
        if detail["type"] != "too_short" or not inner:
            yield from _finding(detail)


def _finding(detail: ErrorDetails) -> Iterator[Finding]:
    raw_loc: Loc = tuple(detail["loc"])
    on_key = bool(raw_loc) and raw_loc[-1] == "[key]"
    loc = tuple(p for p in raw_loc if not _is_tag(p) and p != "[key]")
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Invalid):
        for finding in cause.findings:
            key = on_key or finding.on_key
            yield Finding((*loc, *finding.at), finding.message, finding.hint, key)
    elif kind == "extra_forbidden":
        yield _unknown(raw_loc, loc)
    elif kind == "missing":
        yield Finding(loc, "this key is required")
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        key_name = str(context["discriminator"]).removesuffix("()").strip("'")
        choices = re.findall(r"<([^>]+)>", str(context.get("expected_tags", "")))
        choices = choices or known_tags(raw_loc)
        yield _choice((*loc, key_name), given, key_name, choices)
    elif kind == "literal_error":
        names = re.findall(r"'([^']*)'", str(context["expected"]))
        shown = "***" if is_secret(loc) else repr(given)
        hint = did_you_mean(given, names)
        yield Finding(loc, f"{shown} is not one of {', '.join(names)}", hint, on_key)
    elif kind == "shape":
        words = re.findall(r"[a-z]+", detail["msg"])
        near = did_you_mean(given, words) if isinstance(given, str) else ""
        yield Finding(loc, detail["msg"], near if near.startswith("did") else "", on_key)
    elif kind in _WANTED:
        wanted, hint = _WANTED[kind]
        said = f"this is {wanted}, not {kind_of(given)}"
        if kind.startswith(("int", "float")) and isinstance(given, str | float):
            said = f"this is {wanted}, not {given!r}"
        yield Finding(loc, said, "" if given is None and wanted == "text" else hint, on_key)
    else:
        yield Finding(loc, _plain(detail), "", on_key)


def _unknown(raw_loc: Loc, loc: Loc) -> Finding:
    told = elsewhere(loc)
    if told is not None:
        return Finding(loc, told.why, told.hint, on_key=True)
    hint = did_you_mean(loc[-1], known_keys(raw_loc[:-1]))
    return Finding(loc, f"unknown key {loc[-1]!r}", hint, on_key=True)


def _plain(detail: ErrorDetails) -> str:
    if detail["type"] == "too_short":
        return f"this needs at least {detail.get('ctx', {}).get('min_length', 1)} entry"
    message = detail["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _choice(loc: Loc, given: Any, key: str, choices: list[str]) -> Finding:
    if not isinstance(given, Mapping):
        return Finding(loc[:-1], f"this is a mapping, not {kind_of(given)}", f"with the key {key}")
    value = given.get(key)
    if value is None:
        return Finding(loc, f"{key} is required: one of {', '.join(choices)}")
    hint = did_you_mean(value, choices)
    return Finding(loc, f"{value!r} is not one of {', '.join(choices)}", hint)


def _is_tag(part: object) -> bool:
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def known_keys(loc: Loc) -> list[str]:
    """The keys that the model at a location (with tags) takes; none when it is no model."""
    return [k for annotation in _types_at(loc) for k in _keys(annotation)]


def known_tags(loc: Loc) -> list[str]:
    """The values that tell the members of the union at a location apart."""
    return [tag.strip("<>") for annotation in _types_at(loc) for tag, _ in _members(annotation)]


def _keys(annotation: Any) -> list[str]:
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(keys_of(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return [k for _, member in _members(annotation) for k in _keys(member)]
    return []


def _types_at(loc: Loc) -> list[Any]:
    here: Any = Pipeline
    for part in loc:
        here = _child(here, part)
        if here is None:
            return []
    return [here]


def _child(annotation: Any, part: str | int) -> Any:
    annotation = _bare(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = keys_of(annotation).get(str(part))
        return annotation.model_fields[name].annotation if name else None
    if origin is dict:
        return args[1]
    if origin in (tuple, list):
        return args[0]
    for tag, member in _members(annotation):
        if tag == part:
            return member
    return None


def _members(annotation: Any) -> Iterator[tuple[str, Any]]:
    for member in get_args(_bare(annotation)):
        for extra in get_args(member)[1:] if get_origin(member) is Annotated else ():
            if isinstance(extra, Tag):
                yield extra.tag, member


def _bare(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif type(None) in get_args(annotation):
            left = [a for a in get_args(annotation) if a is not type(None)]
            if len(left) != 1:
                return annotation
            annotation = left[0]
        else:
            return annotation
