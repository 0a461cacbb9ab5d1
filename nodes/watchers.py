"""Which open pages draw the live panel themselves, with this pack's browser extension.

To them a training sends numbers; other clients get a line of text and a picture of the plot.
"""

import threading

from .messages import prompt_server

MOST = 256
"""Pages remembered; each tab of a browser is one, and none says when it closes."""

_pages: dict[str, None] = {}
_lock = threading.Lock()


def note_panel(client_id: str) -> None:
    """Remember that a page draws the panel."""
    with _lock:
        _pages.pop(client_id, None)
        _pages[client_id] = None
        while len(_pages) > MOST:
            del _pages[next(iter(_pages))]


def is_panel_drawn() -> bool:
    """Return whether the page that queued what runs now draws the panel."""
    client_id = getattr(prompt_server(), "client_id", None)
    with _lock:
        return client_id in _pages
