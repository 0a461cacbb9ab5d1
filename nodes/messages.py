"""What a node tells the browser."""

from typing import Any


def prompt_server() -> Any:
    """Return ComfyUI's server; None where ComfyUI runs without one."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def show_text(text: str, node_id: str | None) -> None:
    """Show text on a node; it stays until the node runs again."""
    server = prompt_server()
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)


def send_event(name: str, data: dict[str, Any]) -> None:
    """Send an event to every open page."""
    server = prompt_server()
    if server is not None:
        server.send_sync(name, data)
