"""TensorBoard's log of a run: its signals and sample pictures, beside those of other runs."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..signals import Recorder
from ..train.hooks import Hooks
from ..train.loop import Run, StepReport
from ..train.sample_folder import read_index, read_picture

FOLDER = "tensorboard"
"""In a run's folder: ``tensorboard --logdir runs`` shows all runs side by side."""

PACKAGE = "tensorboard"


class Board:
    """Writes event files while a run goes; ``hooks`` says how it follows one.

    Raises:
        ValueError: If the package tensorboard is missing.
    """

    def __init__(self) -> None:
        if find_spec(PACKAGE) is None:
            raise ValueError(
                "tensorboard = true needs the package tensorboard: run  pip install tensorboard , "
                "or leave it out (the signals are in signals.jsonl and signals.png either way)"
            )
        self._writer: Any = None
        self._samples = Path()

    def hooks(self, hooks: Hooks) -> Hooks:
        """Return hooks that call these and write what they tell of."""
        return replace(
            hooks,
            on_start=both(self._open, hooks.on_start),
            on_step=both(self._write_signals, hooks.on_step),
            on_sample=both(hooks.on_sample, self._write_pictures),
        )

    def close(self) -> None:
        """Write what is left; the board can follow another run then."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, run: Run, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote beyond its saved state is made again, and not shown twice.
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=run.step + 1)
        self._samples = folder / "samples"

    def _write_signals(self, report: StepReport, recorder: Recorder) -> None:
        for name, value in recorder.newest.items():
            self._writer.add_scalar(name, value, report.step)

    def _write_pictures(self, run: Run) -> None:
        for picture in read_index(self._samples):
            if picture.step == run.step:
                pixels = read_picture(self._samples / picture.file)
                name = f"samples/{picture.number}: {picture.prompt}"
                self._writer.add_image(name, pixels, run.step, dataformats="HWC")


def both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls two with the same arguments."""

    def call(*arguments: Any) -> None:
        first(*arguments)
        second(*arguments)

    return call
