"""Rules that are Python functions: the one boundary here where anything may be raised."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylake.quality.errors import CustomRuleFailed

Mask = npt.NDArray[np.bool_]
Function = Callable[..., Any]


ROWS = "the function takes the rows as a pyarrow Table and returns a boolean for each"


def load(text: str, what: str = "custom rule", takes: str = ROWS) -> Function:
    """The function that ``module:function`` or ``file.py:function`` names.

    A file's path is taken from the working directory.

    Args:
        text: The name.
        what: What the function is, for messages.
        takes: What it takes and returns, for messages.

    Raises:
        CustomRuleFailed: It cannot be loaded, or there is no such function in it.
    """
    place, _, name = text.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _module(place)
    except Exception as error:  # user code
        raise CustomRuleFailed(
            f"{what} {text!r}: {place} cannot be loaded: {_told(error)}",
            hint="the file's path is taken from the working directory, modules from sys.path",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise CustomRuleFailed(
            f"{what} {text!r}: {place} has no function {name!r}",
            hint=takes,
        )
    return function  # type: ignore[no-any-return]


def judged(text: str, function: Function, rows: pa.Table) -> Mask:
    """For each row whether it breaks the rule; null, which is unknown, does not.

    Raises:
        CustomRuleFailed: The function raised an error, or gave something else than a mask.
    """
    try:
        found = function(rows)
    except Exception as error:  # user code
        raise CustomRuleFailed(
            f"custom rule {text!r} raised {_told(error)}", function=text
        ) from error
    if isinstance(found, np.ndarray) and found.dtype == np.bool_ and found.ndim == 1:
        found = pa.array(found)
    good = isinstance(found, pa.Array | pa.ChunkedArray) and pa.types.is_boolean(found.type)
    if not good or len(found) != rows.num_rows:
        raise CustomRuleFailed(
            f"custom rule {text!r} gave no boolean for each of {rows.num_rows} rows",
            hint="return a pyarrow or NumPy boolean array, true where the row is fine",
            function=text,
        )
    return ~np.asarray(found.fill_null(True).to_numpy(zero_copy_only=False), np.bool_)


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    module = ModuleType(f"raylake_custom_rule_{path.stem}")
    module.__file__ = str(path)
    SourceFileLoader(module.__name__, str(path)).exec_module(module)
    return module


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(
        ": "
    )
