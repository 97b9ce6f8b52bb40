"""``${VAR}`` in the scalars of a file: replaced after parsing, and never parsed again.

``${VAR}`` is required, ``${VAR:-default}`` and ``${VAR:?message}`` act when VAR is not set or
empty, ``$${`` is a literal ``${``. Keys are left alone, a variable's value is not looked into, and
there is no nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from raylake.config.findings import Finding, Loc

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)(\}|\{|\Z)", re.DOTALL)
_INSIDE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)


def interpolate(data: Any, environ: Mapping[str, str]) -> tuple[Any, list[Finding], set[Loc]]:
    """The data with variables filled in.

    Args:
        data: What the parser made of the file.
        environ: The variables.

    Returns:
        The new data, what could not be filled in, and the places that held a variable. A place
        that could not be filled in keeps its text.
    """
    found: list[Finding] = []
    touched: set[Loc] = set()

    def walk(value: Any, loc: Loc) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*loc, i)) for i, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        touched.add(loc)
        problems = [Finding(loc, message, hint) for message, hint in _problems(value, environ)]
        found.extend(problems)
        return value if problems else _REFERENCE.sub(lambda m: _fill(m, environ), value)

    return walk(data, ()), found, touched


def _problems(text: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for match in _REFERENCE.finditer(text):
        if match[0] == "$${":
            continue
        if match[2] != "}":
            why = "nested or holds a '{'" if match[2] == "{" else "not closed"
            yield f"${{{match[1]} is {why}", "write ${VAR}; $${ is a literal ${"
            continue
        inside = _INSIDE.fullmatch(match[1])
        if inside is None:
            hint = "write ${VAR}, ${VAR:-default} or ${VAR:?message}; $${ is a literal ${"
            yield f"{match[0]} is not a variable", hint
            continue
        name, operator, rest = inside.groups()
        if operator == ":?" and not environ.get(name):
            yield f"{name} is not set: {rest or 'it is required'}", f"export {name}=…"
        elif operator is None and name not in environ:
            yield (
                f"the variable {name} is not set",
                f"export {name}=…, or write ${{{name}:-default}}",
            )


def _fill(match: re.Match[str], environ: Mapping[str, str]) -> str:
    inside = _INSIDE.fullmatch(match[1] or "")
    if inside is None:
        return "${"
    name, operator, rest = inside.groups()
    value = environ.get(name, "")
    return rest if operator == ":-" and not value else value
