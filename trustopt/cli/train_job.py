"""``train`` runs a job file to its end; ``dry_run`` stops before any work."""

from ..data import plan_image_set
from ..train.preflight import plan_memory
from ..train.run import check, largest_area
from .build_job import prepare_job
from .exit_codes import FINISHED
from .job_file import JobFile
from .sample_pictures import SamplePictures
from .show_run import plan_report, run_shown, show_result, write_signals


def train(file: JobFile) -> int:
    """Train as a job file says, say where everything is, and return the exit code.

    Raises:
        ValueError: If something in the job cannot work, before any work.
    """
    prepared = prepare_job(file)
    job, host = prepared.job, prepared.host
    samples = SamplePictures(file.samples, host, job.config.data.resolution)
    print(plan_report(job, prepared.plan), flush=True)
    result = run_shown(job, samples)
    folder = result.folder
    places = {"signals": write_signals(result.signals, folder.path / "signals.png")}
    if file.samples.prompts:
        places["samples"] = folder.samples
    return show_result(result, places)


def dry_run(file: JobFile) -> int:
    """Check a job and say what it would train.

    Raises:
        ValueError: As ``train`` does.
    """
    prepared = prepare_job(file)
    job, host = prepared.job, prepared.host
    SamplePictures(file.samples, host, job.config.data.resolution)
    print(plan_report(job, prepared.plan))
    adapters = check(job)
    buckets = plan_image_set(job.images, job.config.data, host.pixel_multiple)
    print(f"\n{job.images.report()}\n{buckets.report()}\n")
    print(f"{len(adapters)} layers with {adapters.num_parameters:,} trained parameters")
    print(plan_memory(job.config, host, adapters, largest_area(job)).report())
    print("\nDry run: nothing was trained. Leave --dry-run away to train.")
    return FINISHED
