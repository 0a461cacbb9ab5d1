"""Runs a job with everything a terminal shows of it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from ..plan import TrainPlan, toast_text
from ..plan.wording import duration
from ..signals import Recorder, Signals
from ..signals.plots import plot_signals
from ..train.follow import follow_job
from ..train.hooks import Hooks
from ..train.loop import Run, StepReport
from ..train.plan_job import resolve
from ..train.run import Job, RunResult, run_job
from .board import Board
from .exit_codes import FINISHED, STOPPED, UNEXPECTED
from .progress import Display, open_display
from .stopping import StopRequest

SampleMaker = Callable[[Run, Path, Callable[[int, int], None]], None]
"""Makes pictures of a run as it is: the run, its folder, and whom to tell (done, total)."""


def run_shown(job: Job, samples: SampleMaker, board: Board | None = None) -> RunResult:
    """Run a job with progress on stdout, Ctrl-C obeyed.

    Args:
        job: The job.
        samples: What makes its sample pictures.
        board: Follows it, too.

    Raises:
        BaseException: As ``run_job`` does.
    """
    with open_display() as display, StopRequest() as stop, ExitStack() as at_end:
        job.hooks = hooks_of(job, display, stop, samples)
        if board is not None:
            at_end.callback(board.close)
            job.hooks = board.hooks(job.hooks)
        return run_job(job)


def follow_shown(job: Job) -> int:
    """Train beside the process that ``run_shown``, Ctrl-C obeyed, and return the exit code.

    Raises:
        BaseException: As ``follow_job`` does.
    """
    with StopRequest(note=b"") as stop:
        job.hooks = Hooks(
            on_start=lambda run, folder: stop.be_gentle(), on_step=lambda *_: stop.obey()
        )
        return ENDINGS[follow_job(job)][1]


def hooks_of(job: Job, display: Display, stop: StopRequest, samples: SampleMaker) -> Hooks:
    """Return what the run calls."""
    folders: list[Path] = []

    def on_start(run: Run, folder: Path) -> None:
        folders.append(folder)
        stop.be_gentle()
        display.begin(run.step, run.job.steps)

    def on_step(report: StepReport, _recorder: Recorder) -> None:
        display.step(report)
        stop.obey()

    def on_sample(run: Run) -> None:
        if not stop.asked:
            samples(run, folders[0], lambda done, total: display.stage("samples", done, total))

    return Hooks(
        on_stage=display.stage,
        on_report=display.say,
        on_start=on_start,
        on_step=on_step,
        on_sample=on_sample,
    )


def write_signals(signals: Signals, path: Path) -> Path:
    """Write the picture of a run's signals and return where it is."""
    Image.fromarray(plot_signals(signals)).save(path, optimize=True)
    return path


def plan_report(job: Job, plan: TrainPlan) -> str:
    """Return the plan as the optimizer takes it, for people."""
    config = job.config
    return "\n".join(
        [
            f"{job.host.model_name} on {job.host.device}, {config.optimizer.name}, "
            f"{config.adapter.algorithm}, {config.data.resolution} px",
            toast_text(plan, resolve(plan, config.optimizer), processes=job.ranks.size),
        ]
    )


ENDINGS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "finished": ("finished", FINISHED),
        "stopped": ("stopped, what was trained is kept", STOPPED),
        "faulty": ("trained, but the saved LoRA is not good", UNEXPECTED),
    }
)
"""How a run ended -> what is said of it, and the exit code."""


def show_result(result: RunResult, places: Mapping[str, Path]) -> int:
    """Print how a run ended and where everything is; return the exit code.

    Args:
        result: The run.
        places: What else was written, by name.
    """
    words, code = ENDINGS[result.status]
    lines = [f"{words}: {result.steps} steps in {duration(result.seconds)}"]
    if result.skipped:
        lines.append(f"{result.skipped} steps skipped: loss or gradient was not finite")
    lines.append(result.report.summary())
    places = {"LoRA": result.lora, **places, "run": result.folder.path}
    print("\n".join([*lines, *(f"  {name + ':':<9}{path}" for name, path in places.items())]))
    return code
