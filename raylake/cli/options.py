"""Commands whose options are more than a function's parameters may be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def taking(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Makes of a function of one dataclass a command with an option for each of its fields.

    Args:
        kind: The dataclass; its annotations are what typer takes of a parameter.
    """
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in fields(kind)  # type: ignore[arg-type]
    ]

    def decorate(function: Callable[[T], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            function(kind(**given))

        command.__doc__ = function.__doc__
        command.__annotations__ = {one.name: hints[one.name] for one in fields(kind)}  # type: ignore[arg-type]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate
