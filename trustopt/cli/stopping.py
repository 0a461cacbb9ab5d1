"""Ctrl-C: once ends training after the step under way and keeps it, twice ends it at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill."""

NOTE = b"\nstopping after this step; what was trained is kept (Ctrl-C again: at once)\n"


class StopRequest:
    """Whether the user asked to stop; a context in which Ctrl-C asks instead of interrupting.

    Until ``gentle`` is set there is no step to finish, and the first Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self.gentle = False
        self.asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # signals reach no other thread
            self._previous = {name: signal.signal(name, self._receive) for name in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.gentle:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, NOTE)  # print may be what the signal interrupted, and it does not re-enter
