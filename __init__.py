"""ComfyUI entry point of the TrustOpt node pack."""

from .nodes import TrustOptExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> TrustOptExtension:
    """Return the extension that lists every node of this pack."""
    return TrustOptExtension()
