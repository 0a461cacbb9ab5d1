"""One writer a run: a lock that the system lifts when its process ends, however it ends."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TAKEN = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""What the systems call a lock that somebody else holds."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep every other process, and every other run of this one, off a run's folder.

    A file system without locks is used without one.

    Raises:
        ValueError: If the run is being trained already.
    """
    with (folder / ".lock").open("ab") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in TAKEN:
                raise ValueError(
                    f"the run {folder.name} is being trained right now by another program: wait "
                    "for its end, or turn resume off to start a new run beside it"
                ) from error
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
