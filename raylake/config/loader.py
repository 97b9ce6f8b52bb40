"""From a file, variables and flags to a checked :class:`Pipeline`, or to all problems at once.

The order is: parse, fill in ``${VAR}``, put ``RAYLAKE__…`` variables and then flags above the file,
validate. Nothing is resolved that is a secret.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raylake.config.checks import cross_check
from raylake.config.findings import Finding, Loc, dotted
from raylake.config.interpolate import interpolate
from raylake.config.models import Pipeline
from raylake.config.origins import origins, written
from raylake.config.overrides import from_environment, from_flags
from raylake.config.positions import MAX_BYTES, Parsed, SyntaxProblem, parse
from raylake.config.problems import (
    Problem,
    config_error,
    is_secret,
    mask_line,
    masked,
    place_of,
    snippet,
)
from raylake.config.translate import findings
from raylake.config.units import FROM_FILE
from raylake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pipeline file, loaded.

    Attributes:
        config: The configuration, with every default filled in.
        origins: Dotted key to ``file:line:column``, ``env RAYLAKE__…``, ``flag`` or ``default``,
            for every value.
        sha256: Of the values, in hexadecimal: comments, order and spelling do not change it.
        path: The file.
    """

    config: Pipeline
    origins: Mapping[str, str]
    sha256: str
    path: Path

    def values(self) -> dict[str, Any]:
        """Every scalar (and empty list or mapping) by its dotted key; secrets as references."""
        return values_of(self.config)

    def written(self) -> dict[str, str]:
        """Values as a file has them, each a text that the file accepts, by their dotted keys."""
        texts = {key: _plain(value) for key, value in self.values().items()}
        return {**texts, **written(self.config)}


def values_of(config: Pipeline) -> dict[str, Any]:
    """Every scalar (and empty list or mapping) by its dotted key; secrets as references."""
    return dict(_leaves(config.model_dump(mode="json", by_alias=True), ()))


def load(
    path: str | Path,
    *,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Loads a pipeline file.

    Args:
        path: A YAML or JSON file.
        overrides: Flags by dotted key (``kafka.bootstrap``); they win over everything.
        environ: The variables; the process's own when None.

    Raises:
        ConfigError: With every problem found, in ``context["problems"]`` and in the message. The
            values of secrets are in neither.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "raylake init writes one to begin with" if not file.exists() else ""
        problem = Problem(str(path), 0, 0, "", f"the file cannot be read: {reason}", hint)
        raise config_error(str(path), [problem]) from None
    return load_bytes(raw, path=file, overrides=overrides, environ=environ)


def load_bytes(
    raw: bytes,
    *,
    path: str | Path = "pipeline.yaml",
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Loads what a pipeline file holds; ``path`` is for messages and beside it lie schema files.

    Raises:
        ConfigError: As :func:`load`.
    """
    name, file = str(path), Path(path)
    variables = os.environ if environ is None else environ
    try:
        parsed = parse(raw, json=file.suffix.lower() == ".json")
    except SyntaxProblem as problem:
        raise config_error(name, [_syntax(name, problem)]) from None
    data, found, _ = interpolate(parsed.data, variables)
    unfilled = {finding.at for finding in found}
    found = [_without_secret(finding) for finding in found]
    data, env_places, odd = from_environment(data, variables)
    found += odd
    data, flag_places, odd = from_flags(data, overrides or {})
    found += odd
    places = {**env_places, **flag_places}
    config, wrong = _validate(data, file.parent)
    found = [f for f in found if not any(_covers(p, f.at) for p in places)]
    found += [f for f in wrong if not any(_covers(loc, f.at) for loc in unfilled)]
    newer = [f for f in found if f.at == ("format",) and "newer" in f.message]
    if newer:
        # What else is wrong may be right in that format.
        raise _error(name, parsed, places, newer)
    if config is None or found or parsed.duplicates:
        raise _error(name, parsed, places, found)
    return Loaded(config, origins(config, data, parsed, places, name), _sha256(config), file)


def _without_secret(finding: Finding) -> Finding:
    if not is_secret(finding.at):
        return finding
    return Finding(finding.at, "this holds a variable that cannot be filled in", "write env:NAME")


def _covers(loc: Loc, at: Loc) -> bool:
    return bool(loc) and at[: len(loc)] == loc


def _validate(data: dict[str, Any], folder: Path) -> tuple[Pipeline | None, list[Finding]]:
    found = list(cross_check(data))
    try:
        config = Pipeline.model_validate(
            data,
            context={FROM_FILE: True, "folder": str(folder)},
            by_alias=True,
            by_name=False,
        )
    except ValidationError as error:
        return None, [*findings(error), *found]
    return config, found


def _error(
    name: str, parsed: Parsed, places: Mapping[Loc, str], found: Iterable[Finding]
) -> ConfigError:
    lines = masked(parsed)
    problems = []
    twice = {one.finding: one.key for one in parsed.duplicates}
    for finding in [*found, *twice]:
        origin, at = None, twice.get(finding)
        if at is None:
            origin = next((o for loc, o in places.items() if _covers(loc, finding.at)), None)
        if at is None and origin is None:
            at = place_of(parsed, finding.at, on_key=finding.on_key)
        line, column = (at.line, at.column) if at is not None else (0, 0)
        shown = snippet(lines, line, column)
        problems.append(
            Problem(
                origin or name,
                line,
                column,
                dotted(finding.at),
                finding.message,
                finding.hint,
                shown,
            )
        )
    return config_error(name, problems)


def _syntax(name: str, problem: SyntaxProblem) -> Problem:
    lines = [mask_line(line) for line in problem.lines]
    shown = snippet(lines, problem.line, problem.column)
    loc = dotted(problem.loc)
    return Problem(name, problem.line, problem.column, loc, problem.message, problem.hint, shown)


def _sha256(config: Pipeline) -> str:
    plain = config.model_dump(mode="json", by_alias=True)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _leaves(value: Any, loc: Loc) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*loc, str(key)))
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, (*loc, i))
    else:
        yield dotted(loc), value
