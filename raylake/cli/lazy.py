"""A group of commands whose modules are imported when one of them is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """A command by name.

    Attributes:
        module: Holds ``app``, a :class:`typer.Typer` with one command or with several.
        summary: One line for the list of commands.
    """

    module: str
    summary: str


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is used, so that the others cost no time.

    Args:
        entries: Commands by name, in the order of the list.
        **attributes: As :class:`typer.core.TyperGroup`.
    """

    def __init__(self, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._entries = dict(entries)
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names, in order."""
        return list(self._entries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command; only its name and summary while the list is printed."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=entry.summary)
        command = typer.main.get_command(importlib.import_module(entry.module).app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help without importing every command."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False
