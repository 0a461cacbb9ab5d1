"""The pictures of some runs, each with the table it is drawn from."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..trustopt.adapters import block_norms, read_lora
from ..trustopt.adapters.blocks import in_order
from ..trustopt.signals.block_norms import compare_block_norms, plot_block_norms
from ..trustopt.signals.export import write_csv, write_png, write_table
from ..trustopt.signals.noise_levels import plot_loss_by_timestep, profiles_of
from ..trustopt.signals.plots import plot_signals
from ..trustopt.signals.summary import unique_names
from ..trustopt.signals.table import Signals
from .places import lora_of_run

logger = logging.getLogger("trustopt")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One picture and its table."""

    name: str
    """Of its files."""
    pixels: np.ndarray
    """uint8 ``(H, W, 3)``; says so if there is nothing to draw."""
    write_values: Callable[[Path], None]
    """Writes the CSV file."""
    is_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the signals node draws."""

    signals: Figure
    noise_levels: Figure
    blocks: Figure
    notes: list[str] = field(default_factory=list)
    """What could not be drawn, and why."""

    @property
    def drawn(self) -> list[Figure]:
        """Those that show something."""
        return [f for f in (self.signals, self.noise_levels, self.blocks) if not f.is_empty]


def draw(runs: Sequence[Signals], look: dict[str, Any], **options: Any) -> Figures:
    """Draw some runs: their signals, their loss by noise level, what each block has learned.

    Args:
        runs: One or several to compare.
        look: ``size`` and ``theme`` of every picture.
        options: More for ``plot_signals``.

    Raises:
        ValueError: If an option is out of range.
    """
    signals = Figure(
        name="signals",
        pixels=plot_signals(runs, **look, **options),
        write_values=lambda path: write_csv(path, runs if len(runs) > 1 else runs[0]),
    )
    notes: list[str] = []
    blocks = blocks_figure(runs, look, notes)
    return Figures(
        signals=signals, noise_levels=levels_figure(runs, look), blocks=blocks, notes=notes
    )


def levels_figure(runs: Sequence[Signals], look: dict[str, Any]) -> Figure:
    """Draw the mean loss by noise level: how it fell in one run, how it ended in several."""
    profiles = profiles_of(runs)
    several = len(runs) > 1
    title = "Mean loss by noise level" + (", last quarter of each run" if several else "")
    note = "" if several else runs[0].run

    def write_values(path: Path) -> None:
        columns = list(profiles.values())
        edges = np.linspace(0.0, 1.0, len(columns[0]) + 1).round(6).tolist()
        rows = zip(edges[:-1], edges[1:], *(column.tolist() for column in columns), strict=True)
        write_table(path, ["noise_level_from", "noise_level_to", *profiles], rows)

    return Figure(
        name="noise_levels",
        pixels=plot_loss_by_timestep(profiles, title=title, note=note, **look),
        write_values=write_values,
        is_empty=not profiles,
    )


def blocks_figure(runs: Sequence[Signals], look: dict[str, Any], notes: list[str]) -> Figure:
    """Draw the norms of the runs' LoRA files by block; files that cannot be read are noted."""
    labels = unique_names([run.run for run in runs])
    found = [norms_of_run(run.run, notes) for run in runs]
    blocks = in_order({block for norms in found for block in norms})
    rows = {block: [norms.get(block, math.nan) for norms in found] for block in blocks}
    if len(runs) > 1:
        pixels = compare_block_norms(rows, labels, **look)
    else:
        pixels = plot_block_norms(found[0], note=runs[0].run, **look)

    def write_values(path: Path) -> None:
        write_table(path, ["block", *labels], ([block, *row] for block, row in rows.items()))

    return Figure(name="blocks", pixels=pixels, write_values=write_values, is_empty=not rows)


def norms_of_run(run: str, notes: list[str]) -> dict[str, float]:
    """Return the norms of a run's LoRA by block; empty, and noted, if it has none to read."""
    path = lora_of_run(run)
    if path is None:
        notes.append(f"no norms by block of {run or 'the run'}: it has no LoRA in output/loras")
        return {}
    try:
        return block_norms(read_lora(path, strict=False).patches)
    except ValueError as error:
        logger.warning("no norms by block: %s", error)
        notes.append(f"no norms by block: {error}")
        return {}


def write_files(figures: Sequence[Figure], folder: Path) -> list[str]:
    """Write every picture as PNG and its table as CSV; return the names of the files.

    Raises:
        OSError: If one cannot be written.
    """
    names = []
    for figure in figures:
        write_png(folder / f"{figure.name}.png", figure.pixels)
        figure.write_values(folder / f"{figure.name}.csv")
        names += [f"{figure.name}.png", f"{figure.name}.csv"]
    return names
