"""The processes of a launcher: torchrun, accelerate launch, or whatever sets their variables."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..train.ranks import Ranks


@contextlib.contextmanager
def launched() -> Iterator[Ranks]:
    """Be one of the launcher's processes for the time of a ``with`` block; alone without one.

    All but the first are quiet, except for what goes wrong in them.

    Raises:
        ValueError: If the processes cannot find each other.
        PeerError: If another process failed.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield Ranks()
        return
    from ..train.processes import launched_processes  # with torch, which one process loads later

    with launched_processes() as ranks, contextlib.ExitStack() as undo:
        if not ranks.is_first:
            nowhere = undo.enter_context(Path(os.devnull).open("w"))
            undo.enter_context(contextlib.redirect_stdout(nowhere))
            log = logging.getLogger("trustopt")
            undo.callback(log.setLevel, log.level)
            log.setLevel(logging.ERROR)
        yield ranks
