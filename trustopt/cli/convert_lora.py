"""``trustopt convert IN OUT``: a LoRA in another format, precision or rank."""

import argparse
from collections.abc import Mapping
from pathlib import Path

FORMATS = ("kohya", "comfy", "diffusers")
DTYPES = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, help="a LoRA .safetensors of any tool")
    parser.add_argument("target", type=Path, help="the file to write; must not exist")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="kohya",
        help="kohya loads everywhere; diffusers is for FLUX; default: %(default)s",
    )
    parser.add_argument("--dtype", choices=DTYPES, help="precision; default: as it is")
    parser.add_argument("--rank", type=int, help="lower the rank to this by SVD")
    parser.add_argument(
        "--energy",
        type=float,
        help="lower each layer's rank to the least that keeps this share of its change, 0 to 1",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what it holds.

    Raises:
        ValueError: If the source is no LoRA, the target exists, or the format cannot hold it.
    """
    from ..adapters import read_lora, resize, save_lora
    from ..train.lora_file import DTYPES as TORCH_DTYPES

    lora = read_lora(arguments.source)
    if lora.family is None:
        raise ValueError(
            f"{arguments.source.name} holds text encoder layers only: there is no model family to "
            "name its layers after"
        )
    patches, metadata = lora.patches, dict(lora.metadata)
    if arguments.rank is not None or arguments.energy is not None:
        patches, report = resize(patches, rank=arguments.rank, energy=arguments.energy)
        print(report.summary())
        metadata |= rank_metadata(report.ranks)
    widest = max(
        (t.dtype for patch in patches.values() for t in patch.tensors.values()),
        key=lambda dtype: dtype.itemsize,
    )
    saved = save_lora(
        arguments.target,
        patches,
        family=lora.family,
        metadata=metadata,
        file_format=arguments.format,
        dtype=TORCH_DTYPES[arguments.dtype] if arguments.dtype else widest,
        existing="refuse",
    )
    print(f"{saved}: {len(read_lora(saved).patches)} layers, {saved.stat().st_size / 1e6:.3g} MB")
    return 0


def rank_metadata(ranks: Mapping[str, int]) -> dict[str, str]:
    """Return kohya's header fields for new ranks; several are "Dynamic", as kohya's tool says."""
    different = set(ranks.values())
    rank = str(different.pop()) if len(different) == 1 else "Dynamic"
    return {"ss_network_dim": rank, "ss_network_alpha": "Dynamic"}
