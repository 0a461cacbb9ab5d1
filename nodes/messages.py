"""What a node tells the browser."""

from typing import Any


def prompt_server() -> Any:
    """Return ComfyUI's server; None where ComfyUI runs without one."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def show_text(text: str, node_id: str | None) -> None:
    """Show text on a node; it stays until the node runs again.

    Nodes 2.0 reads it as Markdown, where a line ends at two spaces and an asterisk begins a list;
    the classic canvas shows both as they are, so neither may be lost there.
    """
    server = prompt_server()
    if server is not None and node_id is not None:
        lines = [line.strip().replace("* ", "\u2217 ") for line in text.splitlines()]
        server.send_progress_text("  \n".join(lines), node_id)
