"""Pictures and tables on disk: PNG and CSV, whole or not at all."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .durable import replace_file
from .summary import unique_names
from .table import STEP, Signals


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture.

    Args:
        path: File to write; its folder must exist.
        picture: uint8 ``(height, width, 3)``.

    Raises:
        ValueError: If ``picture`` has another shape or dtype.
        OSError: If the file cannot be written; what was there before is then untouched.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"a picture is uint8 (height, width, 3), got {picture.dtype} {picture.shape}"
        )
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", optimize=False)
    replace_file(path, content.getvalue())


def write_csv(path: Path, signals: Signals | Sequence[Signals]) -> None:
    """Write one line a step and one column a series, with a first line of names.

    Several runs stand below each other with their (unique) names in a first column ``run``. A
    missing value is an empty cell; numbers read back as the same float64.

    Args:
        path: File to write; its folder must exist. UTF-8, comma separated.
        signals: One run or several.

    Raises:
        OSError: If the file cannot be written; what was there before is then untouched.
    """
    single = isinstance(signals, Signals)
    runs = [signals] if isinstance(signals, Signals) else list(signals)
    names = list(dict.fromkeys(name for run in runs for name in run.names))
    header = [*([] if single else ["run"]), STEP, *names]
    write_table(path, header, _rows_of(runs, names, with_run=not single))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """Write a table; a NaN is an empty cell, numbers read back as the same float64.

    Args:
        path: File to write; its folder must exist. UTF-8, comma separated.
        header: Names of the columns.
        rows: One cell a column each.

    Raises:
        OSError: If the file cannot be written; what was there before is then untouched.
    """
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if cell != cell else cell for cell in row])  # NaN alone is not itself
    replace_file(path, content.getvalue().encode())


def _rows_of(
    runs: Sequence[Signals], names: Sequence[str], *, with_run: bool
) -> Iterator[list[str | float]]:
    for run, label in zip(runs, unique_names([run.run for run in runs]), strict=True):
        columns = [run.series(name).tolist() for name in names]
        for index, step in enumerate(run.steps.tolist()):
            yield [*([label] if with_run else []), step, *(column[index] for column in columns)]
