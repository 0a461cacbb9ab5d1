"""Which open pages draw the live panel themselves, with this pack's browser extension.

To them a training sends numbers; other clients get a line of text and a picture of the plot.
"""

import threading
from typing import Any

from .messages import prompt_server

MOST = 256
"""Pages remembered; each tab of a browser is one, and none says when it closes."""

_pages: dict[str, None] = {}
_away: dict[str, None] = {}
"""Pages that are being reloaded. They are connected before their extension listens, and newer
frontends report an event that nobody listens to as an error."""

_lock = threading.Lock()


def note_panel(client_id: str) -> None:
    """Remember that a page draws the panel."""
    with _lock:
        _away.pop(client_id, None)
        _remember(_pages, client_id)


def note_away(client_id: str) -> None:
    """Remember that a page is closed or reloaded, until it draws the panel again."""
    with _lock:
        _remember(_away, client_id)


def is_panel_drawn() -> bool:
    """Return whether the page that queued what runs now draws the panel."""
    client_id = getattr(prompt_server(), "client_id", None)
    with _lock:
        return client_id in _pages


def send_event(name: str, data: dict[str, Any]) -> None:
    """Send an event to every open page, but for those that are just being reloaded."""
    server = prompt_server()
    if server is None:
        return
    with _lock:
        away = set(_away)
    if not away:
        server.send_sync(name, data)
        return
    for client_id in list(server.sockets):
        if client_id not in away:
            server.send_sync(name, data, client_id)


def _remember(pages: dict[str, None], client_id: str) -> None:
    pages.pop(client_id, None)
    pages[client_id] = None
    while len(pages) > MOST:
        del pages[next(iter(pages))]
