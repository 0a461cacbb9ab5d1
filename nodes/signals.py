"""The node that draws what runs recorded."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui

from ..trustopt.signals.recorder import load_signals
from ..trustopt.signals.table import Signals
from .io_types import CATEGORY, SignalsSocket
from .messages import show_text
from .pictures import to_image
from .places import output_folders, plots_folder
from .widgets import auto_float, chosen, picture_widgets

if TYPE_CHECKING:
    from .figures import Figure


class SignalPreview(io.ComfyNode):
    """Draw one run in depth, or compare several."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_SignalPreview",
            display_name="Training Signals",
            category=CATEGORY,
            description="Draws a run's loss, learning rate and the optimizer's own signals, its "
            "loss by noise level and what each block has learned. With several runs it compares "
            "them.",
            search_aliases=["loss graph", "training chart", "plot loss", "compare runs", "trust"],
            is_output_node=True,
            inputs=[
                io.Autogrow.Input(
                    "runs",
                    template=io.Autogrow.TemplatePrefix(
                        SignalsSocket.Input("run", tooltip="Signals of a Train LoRA node."),
                        prefix="run",
                        min=0,
                        max=10,
                    ),
                    optional=True,
                    tooltip="Signals of Train LoRA nodes; a new socket appears for each.",
                ),
                io.String.Input(
                    "saved_runs",
                    default="",
                    optional=True,
                    tooltip="Names of earlier runs to compare with, such as 'first, second': "
                    "folders in output/trustopt.",
                ),
                io.String.Input(
                    "series",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="What to draw, such as 'loss, opt/*'. Empty draws all that matters.",
                ),
                io.Boolean.Input(
                    "log_loss",
                    default=False,
                    optional=True,
                    tooltip="Draw the loss on a logarithmic axis.",
                ),
                auto_float(
                    "smoothing",
                    "Share of the past in the average, 0 to 0.999.",
                    most=0.999,
                    step=0.001,
                    advanced=True,
                ),
                *picture_widgets(),
                io.Boolean.Input(
                    "save_files",
                    default=False,
                    optional=True,
                    tooltip="Write every picture as PNG and its numbers as CSV, too: into plots in "
                    "the run's folder, of several runs into output/trustopt_plots. Nothing is "
                    "overwritten.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The plots, one picture."),
                io.Image.Output(
                    "noise_levels",
                    tooltip="Mean loss by noise level: at the beginning and at the end of one run, "
                    "at the end of several.",
                ),
                io.Image.Output(
                    "blocks",
                    tooltip="How much each block has learned: the norm of its change in the LoRA "
                    "files of the runs.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, saved_runs: str | None = "", **_: Any) -> list[int]:
        try:
            files = [signals_file(name) for name in run_names(saved_runs or "")]
        except ValueError:  # the run's own error says more
            return []
        return [file.stat().st_mtime_ns for file in files]

    @classmethod
    def execute(
        cls,
        runs: dict[str, Signals] | None = None,
        saved_runs: str = "",
        series: str = "",
        log_loss: bool = False,
        smoothing: float = -1.0,
        theme: Any = "dark",
        width: int = 1280,
        height: int = 960,
        save_files: bool = False,
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .figures import draw

        shown = gather(runs or {}, saved_runs)
        figures = draw(
            shown,
            {"size": (width, height), "theme": theme},
            series=[name.strip() for name in series.split(",") if name.strip()] or None,
            log_loss=log_loss,
            **chosen({"smoothing": smoothing}),
        )
        said = list(figures.notes)
        if save_files:
            said.append(save(shown, figures.drawn))
        if said:
            show_text("\n".join(said), cls.hidden.unique_id)
        drawn = torch.cat([to_image(figure.pixels) for figure in figures.drawn])
        return io.NodeOutput(
            to_image(figures.signals.pixels),
            to_image(figures.noise_levels.pixels),
            to_image(figures.blocks.pixels),
            ui=ui.PreviewImage(drawn, cls=cls),
        )


def save(runs: list[Signals], figures: "list[Figure]") -> str:
    """Write pictures and tables into a new folder; return what to tell the user."""
    from .figures import write_files

    folder = plots_folder([run.run for run in runs])
    place = folder.relative_to(output_folders().runs.parent).as_posix()
    return f"saved in output/{place}: {', '.join(write_files(figures, folder))}"


def gather(connected: dict[str, Signals], saved_runs: str) -> list[Signals]:
    """Return connected runs, then saved ones.

    Raises:
        ValueError: If there is none, or a saved run does not exist.
    """
    runs = [signals for signals in connected.values() if signals is not None]
    runs += [load_signals(signals_file(name)) for name in run_names(saved_runs)]
    if not runs:
        raise ValueError(
            "no signals to draw: connect SIGNALS of a Train LoRA node, "
            "or name a run of output/trustopt in saved_runs"
        )
    return runs


def run_names(text: str) -> list[str]:
    """Return the names in a text, separated by commas, which no run's name holds."""
    return [name.strip() for name in text.split(",") if name.strip()]


def signals_file(name: str) -> Path:
    """Return a saved run's file.

    Raises:
        ValueError: If there is no such run; those there are follow.
    """
    runs = output_folders().runs
    known = sorted(path.parent.name for path in runs.glob("[!.]*/signals.jsonl"))
    if name not in known:
        raise ValueError(
            f"no saved run is called {name!r}: {runs} holds {', '.join(known) or 'none yet'}"
        )
    return runs / name / "signals.jsonl"
