"""From a job file to a job: pictures read, model loaded, plan made."""

from dataclasses import dataclass

import torch

from ..hosts.diffusers_host import DiffusersHost
from ..hosts.loading import load_checkpoint, load_tiny
from ..plan import TrainPlan
from ..train.folders import Folders
from ..train.lora_file import DTYPES
from ..train.plan_images import plan_images
from ..train.ranks import Ranks
from ..train.run import Job
from .job_config import job_config, load_images
from .job_file import JobFile


@dataclass(frozen=True, kw_only=True)
class PreparedJob:
    """A job file's job, with the plan it follows."""

    job: Job
    host: DiffusersHost
    plan: TrainPlan


def prepare_job(file: JobFile, ranks: Ranks) -> PreparedJob:
    """Read the pictures, load the model, and make the plan and the job.

    Args:
        file: The job.
        ranks: The processes that train it, each on a device of its own.

    Raises:
        ValueError: If one of them cannot be used.
    """
    images, host = load_images(file), load_host(file, ranks)
    plan = plan_images(images, family=host.family, purpose=file.purpose, overrides=file.plan)
    output = file.output
    job = Job(
        config=job_config(file, plan),
        host=host,
        images=images,
        folders=Folders(
            loras=file.locate(output.loras),
            runs=file.locate(output.runs),
            cache=file.locate(output.cache) if output.cache else None,
        ),
        notes={"plan": plan.to_dict()},
        private=output.private,
        resume=output.resume,
        anyway=output.anyway,
        ranks=ranks,
    )
    return PreparedJob(job=job, host=host, plan=plan)


def load_host(file: JobFile, ranks: Ranks) -> DiffusersHost:
    """Load the job's base model onto this process's device.

    Raises:
        ValueError: If it cannot be used, or is of another family than the file says.
    """
    table = file.model
    device = choose_device(table.device, ranks)
    dtype = choose_dtype(table.dtype, device)
    if file.is_tiny:
        assert table.family != "auto", "read_job_file checks it"
        return load_tiny(table.family, device=device, dtype=dtype)
    host = load_checkpoint(
        file.locate(table.path),
        device=device,
        dtype=dtype,
        files=[file.locate(path) for path in table.files],
        tokenizers=file.locate(table.tokenizers) if table.tokenizers else None,
    )
    if table.family not in ("auto", host.family):
        raise ValueError(
            f"{file.path.name} [model] says family {table.family}, but {host.model_name} is "
            f"{host.family}: correct it, or leave it auto"
        )
    return host


def choose_device(name: str, ranks: Ranks) -> torch.device:
    """Return the device of that name; ``auto`` is the first accelerator, or else the CPU.

    Of several processes each gets a GPU of its own.

    Raises:
        ValueError: If there is no such device here, or not one for each process.
    """
    device = one_device(name)
    if ranks.size == 1 or device.type == "cpu":
        return device
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.index is not None or device.type != "cuda" or ranks.local_rank >= count:
        raise ValueError(
            f"device {name!r} is one for {ranks.size} processes, and each needs a GPU of its own: "
            f"launch at most as many as there are GPUs (here {count}), with device auto or cuda; "
            "or use cpu"
        )
    return torch.device("cuda", ranks.local_rank)


def one_device(name: str) -> torch.device:
    """Return the device of that name for one process.

    Raises:
        ValueError: If there is no such device here.
    """
    accelerators = {"cuda": torch.cuda, "mps": torch.backends.mps}
    found = [kind for kind, backend in accelerators.items() if backend.is_available()] + ["cpu"]
    if name == "auto":
        return torch.device(found[0])
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in found or (index and not (index.isdecimal() and int(index) < count)):
        raise ValueError(f"there is no device {name!r} here: use {', '.join(found)} or auto")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the compute dtype of that name; ``auto`` is what the device does best."""
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32 if device.type == "cpu" else torch.float16
