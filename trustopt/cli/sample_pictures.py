"""Sample pictures of a run: the same prompts and noise, step after step."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..data.captions import fill_trigger
from ..hosts.diffusers_host import DiffusersHost
from ..hosts.sampling import sample
from ..train.loop import Run
from ..train.lora_file import saved_weights
from ..train.sample_folder import SampleFolder
from .job_file import SamplesTable


class SamplePictures:
    """Fills a run's ``samples`` folder with pictures of a job's prompts.

    Args:
        table: Prompts and how to sample them; without prompts nothing is made.
        host: The model that is trained.
        resolution: Side of the pictures where the table names none, pixels.
        trigger_word: Stands for ``[trigger]`` in prompts.

    Raises:
        ValueError: If the model cannot make pictures of that size.
    """

    def __init__(
        self, table: SamplesTable, host: DiffusersHost, resolution: int, trigger_word: str = ""
    ) -> None:
        multiple = host.pixel_multiple
        for side in (table.width, table.height):
            if side is not None and (side < multiple or side % multiple):
                raise ValueError(
                    f"[samples] width and height must be multiples of {multiple} for "
                    f"{host.family}, got {side}; left out they are the training resolution"
                )
        if table.steps < 1:
            raise ValueError(f"[samples] steps must be at least 1, got {table.steps}")
        square = resolution // multiple * multiple
        self.size = (table.width or square, table.height or square)
        self.table, self.host = table, host
        filled = (fill_trigger(prompt, trigger_word) for prompt in table.prompts)
        self.prompts = tuple(dict.fromkeys(filled))
        self._folder: SampleFolder | None = None

    def __call__(self, run: Run, folder: Path, progress: Callable[[int, int], None]) -> None:
        """Make the pictures of the run as it is, into its folder; inside the host's session."""
        if not self.prompts:
            return
        pictures = self.draw(run, self.prompts, progress)
        if self._folder is None:
            self._folder = SampleFolder(folder / "samples", run.step)
        self._folder.add(run.step, self.prompts, pictures)

    def draw(
        self, run: Run, prompts: Sequence[str], progress: Callable[[int, int], None]
    ) -> list[np.ndarray]:
        """Return one picture a prompt, uint8 ``(H, W, 3)``, from the weights that are saved."""
        pictures = []
        with saved_weights(run):
            for index, prompt in enumerate(prompts):
                pictures.extend(
                    sample(
                        self.host,
                        [prompt],
                        size=self.size,
                        steps=self.table.steps,
                        guidance=self.table.guidance,
                        seed=self.table.seed + index,
                    )
                )
                progress(index + 1, len(prompts))
        return pictures
