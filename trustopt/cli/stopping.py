"""Ctrl-C: once ends training after the step under way and keeps it, twice ends it at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from ..train.ranks import StopTraining

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill."""

NOTE = b"\nstopping after this step; what was trained is kept (Ctrl-C again: at once)\n"


class StopRequest:
    """Whether the user asked to stop; a context in which Ctrl-C asks instead of interrupting.

    Until ``be_gentle`` there is no step to finish, and the first Ctrl-C interrupts at once.

    Args:
        note: Written to stderr when the user asks.
    """

    def __init__(self, note: bytes = NOTE) -> None:
        self.gentle = False
        self.asked = False
        self._note = note
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # signals reach no other thread
            self._previous = {name: signal.signal(name, self._receive) for name in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def be_gentle(self) -> None:
        """From now on there are steps: let the one under way end."""
        self.gentle = True

    def obey(self) -> None:
        """End training if the user asked.

        Raises:
            StopTraining: If so.
        """
        if self.asked:
            raise StopTraining("Ctrl-C")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.gentle:
            raise KeyboardInterrupt
        self.asked = True
        os.write(
            2, self._note
        )  # print may be what the signal interrupted, and it does not re-enter
