"""Is a saved file good? Read it back and compare it with what was trained."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..host import Family, LayerShape
from .blocks import combine
from .compare import relative_difference, rounding_tolerance
from .container import file_model_hash
from .patch import LayerPatch, norm
from .read import LoraFile, check_fits, read_lora


@dataclass(frozen=True, kw_only=True)
class SaveReport:
    """What reading a saved file showed."""

    path: Path
    problems: tuple[str, ...]
    """What is wrong, in words; empty for a good file."""
    num_layers: int
    num_tensors: int
    bytes: int
    block_norms: Mapping[str, float]
    """Block -> Frobenius norm of its change."""
    worst_error: float
    """Largest relative difference between a layer's change in the file and in training."""
    worst_layer: str
    model_hash: str
    """``sshs_model_hash``: equal for equal weights, whatever the header says."""
    effect_error: float | None = None
    """How much of the LoRA's effect on the network the file misses, if it was tried there, beyond
    what the network rounds."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def summary(self) -> str:
        """Return one line for a node or a terminal, and one for each problem."""
        size = f"{self.bytes / 2**20:.1f} MB, {self.num_layers} layers"
        if self.ok:
            error = f"differs from the trained weights by at most {self.worst_error:.1e}"
            if self.effect_error is not None:
                error += f", its effect by {self.effect_error:.1e}"
            return f"{self.path.name}: good ({size}; {error})"
        return "\n".join([f"{self.path.name}: NOT GOOD ({size})", *self.problems])


def self_check(
    path: Path,
    trained: Mapping[str, LayerPatch],
    layers: Mapping[str, LayerShape] | None = None,
    family: Family | None = None,
) -> SaveReport:
    """Read a saved file from disk and compare it with what was trained.

    Checked are: it reads in full, every key maps onto a layer of the model with its shape, every
    trained layer is there, all values are finite, every block changes something, and each
    layer's change equals the trained one within its dtype's tolerance.

    Args:
        path: The file.
        trained: What the file should hold: ``AdapterSet.patches``, or what was converted.
        layers: The model's layers, from ``Host.layers``; None leaves the model out of it.
        family: The model's; wanted with ``layers``.

    Returns:
        A report; a bad file is described, not raised.
    """
    try:
        lora = read_lora(path)
        if layers is not None and family is not None:
            check_fits(lora, layers, family)
    except ValueError as error:
        return _unreadable(path, str(error))
    errors = {
        name: relative_difference(lora.patches[name], patch.to(torch.float32))
        for name, patch in trained.items()
        if name in lora.patches
    }
    worst = max(errors, key=lambda name: errors[name], default="")
    norms = combine({name: norm(patch) for name, patch in lora.patches.items()})
    content_hash = file_model_hash(path)
    problems = [
        *_content_problems(lora, trained, content_hash),
        *(_rounding_problem(name, error, lora.patches[name]) for name, error in errors.items()),
        *(
            f"block {block} changes nothing"
            for block, value in norms.items()
            if value == 0.0 and block != _unread_block(norms, family or lora.family)
        ),
    ]
    return SaveReport(
        path=path,
        problems=tuple(problem for problem in problems if problem),
        num_layers=len(lora.patches),
        num_tensors=sum(lora.dtypes.values()),
        bytes=path.stat().st_size,
        block_norms=norms,
        worst_error=errors.get(worst, math.inf),
        worst_layer=worst,
        model_hash=content_hash,
    )


def _unread_block(blocks: Iterable[str], family: Family | None) -> str:
    """Return the block no gradient reaches: SDXL reads te1 before its last layer; "" if none."""
    te1 = [block for block in blocks if block.startswith("te1.")]
    return max(te1, key=lambda block: int(block[4:]), default="") if family == "sdxl" else ""


def _content_problems(
    lora: LoraFile, trained: Mapping[str, LayerPatch], content_hash: str
) -> Iterator[str]:
    missing = [name for name in trained if name not in lora.patches]
    if missing:
        yield f"{len(missing)} trained layers are not in the file: {missing[0]}"
    broken = [name for name, patch in lora.patches.items() if not _is_finite(patch)]
    if broken:
        yield f"{len(broken)} layers hold NaN or infinite values: {broken[0]}"
    if lora.metadata.get("sshs_model_hash", content_hash) != content_hash:
        yield "the tensors are not the ones that were written: their hash differs"


def _rounding_problem(name: str, error: float, saved: LayerPatch) -> str:
    tolerance = rounding_tolerance(saved)
    if error <= tolerance:
        return ""
    return (
        f"the change of {name} differs by {error:.1e} from the trained one, more than "
        f"{tolerance:.1e}: save again as fp32"
    )


def _is_finite(patch: LayerPatch) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in patch.tensors.values())


def _unreadable(path: Path, problem: str) -> SaveReport:
    return SaveReport(
        path=path,
        problems=(problem,),
        num_layers=0,
        num_tensors=0,
        bytes=path.stat().st_size if path.is_file() else 0,
        block_norms={},
        worst_error=math.inf,
        worst_layer="",
        model_hash="",
    )
