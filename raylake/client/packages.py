"""Whether RayLake's own packages are found, and not a folder of the user's with such a name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from raylake.errors import ConfigError

PACKAGES = ("raylake", "actors", "jobs")


def check_packages() -> None:
    """Make sure that ``raylake``, ``actors`` and ``jobs`` come from one installation.

    None of them is imported for it: a folder of the user's may hold anything.

    Raises:
        ConfigError: They lie in different places; the message names them.
    """
    places = {name: _place(name) for name in PACKAGES}
    if len(set(places.values())) > 1:
        found = ", ".join(f"{name} from {place}" for name, place in places.items())
        raise ConfigError(
            f"another package hides one of RayLake's: {found}",
            hint="start with `raylake job ingest --config FILE`, which no folder can hide, "
            "or rename the folder",
        )


def _place(name: str) -> str:
    spec = find_spec(name)
    if spec is None:
        return "nowhere"
    # A package has a folder of its own, a module only a file.
    folders = list(spec.submodule_search_locations or [])
    return str(Path(folders[0] if folders else spec.origin or "").resolve().parent)
