"""Progress of a wait: in place in a notebook or a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self

from rich.console import Console
from rich.live import Live

from raylake.client.run_view import RunView
from raylake.clock import Clock

QUIET_LINE_S: Final = 10.0


class Progress(Protocol):
    """Shows how a run stands, again and again."""

    def show(self, view: RunView) -> None:
        """Show it in the place of what was shown before."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, view: RunView) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class InNotebook:
    """One output of a cell, renewed.

    Args:
        display: IPython's; with ``display_id`` it returns what is updated.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._shown: Any = None

    def show(self, view: RunView) -> None:
        """Renew the output."""
        if self._shown is None:
            self._shown = self._display(view, display_id=True)
        else:
            self._shown.update(view)

    def close(self) -> None:
        """It stays as it is."""


class OnTerminal:
    """A picture that is drawn again, and stays."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, view: RunView) -> None:
        """Draw it again."""
        self._live.update(view, refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


class Lines:
    """A line when the state changes, and every ten seconds.

    Args:
        write: Takes a line.
        clock: Time.
    """

    def __init__(self, write: Callable[[str], Any], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._state = ""
        self._said_s = 0.0

    def show(self, view: RunView) -> None:
        """Say it, when it is time to."""
        now_s = self._clock.monotonic()
        if view.state == self._state and now_s < self._said_s + QUIET_LINE_S:
            return
        self._state, self._said_s = view.state, now_s
        self._write(f"{view.line}\n")

    def close(self) -> None:
        """Nothing."""


class Showing:
    """Progress for the length of a wait.

    Args:
        progress: Where it is shown.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __call__(self, view: RunView) -> None:
        """Show it."""
        self._progress.show(view)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close it, however the wait ends."""
        self._progress.close()


def progress_here(clock: Clock) -> Progress:
    """What fits where this process shows things: a notebook, a terminal, or neither."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if ipython is not None and getattr(shell, "kernel", None) is not None:
        return InNotebook(ipython.display.display)
    console = Console(stderr=True, highlight=False)
    return OnTerminal(console) if console.is_terminal else Lines(sys.stderr.write, clock)
