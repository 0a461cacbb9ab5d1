"""What must not happen too often."""

import time


class Throttle:
    """Says when something that must not happen too often is due."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        """Return whether it is due, and count it as done if so."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def delay(self, seconds: float) -> None:
        """Make the next time come no earlier than in ``seconds``."""
        self._next = max(self._next, time.monotonic() + seconds)
