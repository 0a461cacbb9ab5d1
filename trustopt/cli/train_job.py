"""``train`` runs a job file to its end; ``dry_run`` stops before any work."""

from ..data import plan_image_set
from ..hosts.diffusers_host import DiffusersHost
from ..train.hooks import Hooks
from ..train.ranks import Ranks
from ..train.run import Job, check, plan
from .board import FOLDER, Board
from .build_job import prepare_job
from .exit_codes import FINISHED
from .job_file import JobFile
from .sample_pictures import SamplePictures
from .show_run import follow_shown, plan_report, run_shown, show_result, write_signals


def train(file: JobFile, ranks: Ranks) -> int:
    """Train as a job file says, say where everything is, and return the exit code.

    Args:
        file: The job.
        ranks: The processes that train it; the first writes and speaks.

    Raises:
        ValueError: If something in the job cannot work, before any work.
        PeerError: If another process failed.
    """
    prepared = prepare_job(file, ranks)
    job, host = prepared.job, prepared.host
    samples, board = samples_of(file, job, host), board_of(file)
    print(plan_report(job, prepared.plan), flush=True)
    if not ranks.is_first:
        return follow_shown(job)
    result = run_shown(job, samples, board)
    folder = result.folder
    places = {"signals": write_signals(result.signals, folder.path / "signals.png")}
    if file.samples.prompts:
        places["samples"] = folder.samples
    if board is not None:
        places["board"] = folder.path / FOLDER
    return show_result(result, places)


def samples_of(file: JobFile, job: Job, host: DiffusersHost) -> SamplePictures:
    """Return what makes the job's sample pictures.

    Raises:
        ValueError: If the model cannot make them.
    """
    trigger_word = job.images.trigger_word
    return SamplePictures(file.samples, host, job.config.data.resolution, trigger_word)


def board_of(file: JobFile) -> Board | None:
    """Return what writes TensorBoard's log, if the job wants one.

    Raises:
        ValueError: If the package tensorboard is missing.
    """
    return Board() if file.output.tensorboard else None


def dry_run(file: JobFile, ranks: Ranks) -> int:
    """Check a job and say what it would train.

    Args:
        file: The job.
        ranks: The processes that would train it.

    Raises:
        ValueError: As ``train`` does.
    """
    prepared = prepare_job(file, ranks)
    job, host = prepared.job, prepared.host
    samples_of(file, job, host)
    board_of(file)
    print(plan_report(job, prepared.plan))
    adapters = check(job)
    buckets = plan_image_set(job.images, job.config.data, host.pixel_multiple)
    print(f"\n{job.images.report()}\n{buckets.report()}\n")
    print(f"{len(adapters)} layers with {adapters.num_parameters:,} trained parameters")
    job.hooks = Hooks(on_report=print)
    plan(job, adapters)
    print("\nDry run: nothing was trained. Leave --dry-run away to train.")
    return FINISHED
