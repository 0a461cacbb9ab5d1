"""Does the saved file do what was trained? One noised batch through the network, three times."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..adapters import AdapterSet, SaveReport, read_lora
from .backward import conditioning_of
from .loop import Run
from .lora_file import LoraWriter, saved_weights

ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Share of the LoRA's effect that storing it in a dtype may change; a layer's bound is tighter."""


def save_and_try(writer: LoraWriter, path: Path) -> SaveReport:
    """Write the LoRA, compare the file's weights, then its effect on the network.

    Call it inside the host's session, when training is over: it draws one more batch.

    Raises:
        OSError: If the file cannot be written.
    """
    report = writer.save_checked(path)
    if not report.ok:
        return report  # its first problem is the one to read; a broken file cannot be tried
    with saved_weights(writer.run):
        error, effect, size = effect_of_file(writer.run, path)
    noise = torch.finfo(writer.run.host.dtype).eps * size
    allowed = ROUNDING[writer.dtype] * effect + noise
    problem = (
        f"the file changes the network's output by {error:.1e} otherwise than training did, "
        f"more than the {allowed:.1e} that rounding explains: save again as fp32"
    )
    problems = () if error <= allowed else (problem,)
    # In half precision the model's own rounding can be as large as a young LoRA's effect.
    share = max(0.0, error - noise) / effect if effect > 0.0 else None
    return replace(report, problems=problems, effect_error=share)


@torch.no_grad()
def effect_of_file(run: Run, path: Path) -> tuple[float, float, float]:
    """Return L2 norms on one batch: file against training, training against base, and output."""
    batch = next(run.batches)
    draw = run.objective.draw(batch.latents, run.generator)

    def output() -> Tensor:
        return run.host.denoise(draw.noised, draw.sigma, conditioning_of(run, batch)).double()

    trained = output()
    with run.adapters.disabled():
        base = output()
    with weights_from(run.adapters, path):
        saved = output()
    return float((saved - trained).norm()), float((trained - base).norm()), float(trained.norm())


@contextmanager
def weights_from(adapters: AdapterSet, path: Path) -> Iterator[None]:
    """Hold a file's weights in the adapters for the time of a ``with`` block."""
    kept = adapters.state_dict()
    patches = read_lora(path).patches
    adapters.load_patches({name: patch.to(torch.float32) for name, patch in patches.items()})
    try:
        yield
    finally:
        adapters.load_state_dict(kept)
