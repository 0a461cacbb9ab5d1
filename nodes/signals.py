"""The node that draws what runs recorded."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..trustopt.signals.recorder import load_signals
from ..trustopt.signals.table import Signals
from .io_types import CATEGORY, SignalsSocket
from .pictures import to_image
from .places import output_folders
from .widgets import auto_float, chosen


class SignalPreview(io.ComfyNode):
    """Draw one run in depth, or compare several."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_SignalPreview",
            display_name="Training Signals",
            category=CATEGORY,
            description="Draws a run's loss, learning rate and the optimizer's own signals. With "
            "several runs it compares them.",
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
                io.Combo.Input(
                    "theme",
                    options=["light", "dark"],
                    default="dark",
                    optional=True,
                    tooltip="Light suits documents, dark suits the graph.",
                ),
                *(
                    io.Int.Input(
                        name,
                        default=default,
                        min=256,
                        max=4096,
                        step=16,
                        optional=True,
                        advanced=True,
                        tooltip=f"{name.capitalize()} of the picture, pixels.",
                    )
                    for name, default in (("width", 1280), ("height", 960))
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The plots, one picture.")],
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
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from ..trustopt.signals.plots import plot_signals

        pixels = plot_signals(
            gather(runs or {}, saved_runs),
            size=(width, height),
            series=[name.strip() for name in series.split(",") if name.strip()] or None,
            log_loss=log_loss,
            theme=theme,
            **chosen({"smoothing": smoothing}),
        )
        image = to_image(pixels)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


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
