"""What the caption editor of the browser asks.

``GET /trustopt/captions``: a folder's pictures and captions, by the parameters of
``/trustopt/plan``. ``GET /trustopt/captions/thumbnail?folder=&file=&version=``: a small picture.
``POST /trustopt/captions``: captions to save.

ComfyUI's server refuses requests that pages of other sites make. A form of such a page can send
no JSON without the server's consent, so that nothing else is taken here.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .messages import prompt_server
from .routes import refusal
from .web_routes import parse_query

if TYPE_CHECKING:
    from .captions import Edit

EXPECTED = (
    'post {"folder": text, "caption_extension": text, '
    '"captions": [{"name": text, "caption": text, "before": text}]} as application/json'
)

YEAR = 31_536_000
"""Seconds a browser may keep a thumbnail: its address changes with the picture."""


def add_caption_routes() -> None:
    """Register the routes with ComfyUI's server, if there is one."""
    server = prompt_server()
    if server is None:
        return
    server.routes.get("/trustopt/captions")(get_captions)
    server.routes.get("/trustopt/captions/thumbnail")(get_thumbnail)
    server.routes.post("/trustopt/captions")(post_captions)


async def get_captions(request: web.Request) -> web.Response:
    """Answer with a folder's pictures; see ``captions.list_captions``."""
    # Imported when asked: ComfyUI shows every user how long each pack takes to load.
    from .captions import list_captions

    try:
        query = parse_query(request.query)
    except ValueError as error:
        return refusal(400, str(error))
    try:
        return web.json_response(await asyncio.to_thread(list_captions, query))
    except (ValueError, OSError) as error:  # OSError: a picture vanished meanwhile
        return web.json_response({"problem": str(error)})


async def get_thumbnail(request: web.Request) -> web.Response:
    """Answer with a small JPEG of one picture."""
    from .captions import thumbnail_of

    folder, file = request.query.get("folder", ""), request.query.get("file", "")
    try:
        content = await asyncio.to_thread(thumbnail_of, folder, file)
    except ValueError as error:
        return refusal(404, str(error))
    headers = {"Cache-Control": f"private, max-age={YEAR}, immutable"}
    return web.Response(body=content, content_type="image/jpeg", headers=headers)


async def post_captions(request: web.Request) -> web.Response:
    """Save captions, and answer with what became of each; see ``captions.save_captions``."""
    from .captions import save_captions

    if request.content_type != "application/json":
        return refusal(415, EXPECTED)
    try:
        folder, extension, edits = parse_edits(await request.json())
    except ValueError as error:
        return refusal(400, str(error))
    try:
        return web.json_response(await asyncio.to_thread(save_captions, folder, extension, edits))
    except ValueError as error:
        return web.json_response({"problem": str(error)})


def parse_edits(body: Any) -> tuple[str, str, list["Edit"]]:
    """Return folder, caption extension and captions of a request.

    Raises:
        ValueError: If the body has another form.
    """
    from .captions import Edit

    try:
        folder, extension = body["folder"], body["caption_extension"]
        edits = [Edit(**entry) for entry in body["captions"]]
    except (KeyError, TypeError) as error:
        raise ValueError(EXPECTED) from error
    texts = [folder, extension, *(t for e in edits for t in (e.name, e.caption, e.before))]
    if not edits or not all(isinstance(text, str) for text in texts):
        raise ValueError(EXPECTED)
    return folder, extension, edits
