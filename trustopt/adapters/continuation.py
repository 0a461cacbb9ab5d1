"""Adapters that go on from a LoRA file of any program, with or without a saved run."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..config import AdapterConfig, Algorithm
from ..host import Family, LayerShape
from .adapter_set import AdapterSet
from .build import build_adapters, import_peft
from .patch import LayerPatch
from .read import LoraFile, check_fits
from .settings import LayerSettings


def continue_adapters(
    lora: LoraFile,
    layers: Mapping[str, LayerShape],
    family: Family,
    config: AdapterConfig,
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
) -> AdapterSet:
    """Build adapters for a file's layers, with its algorithm, ranks and alphas, and its weights.

    Args:
        lora: The file.
        layers: Every layer of the model, from ``Host.layers``.
        family: The model's.
        config: What the file does not say: dropout, norm bound, learning rates by block. Its
            algorithm, ranks, alphas and targets give way to the file's.
        generator: CPU generator of weights the file lacks.
        device: Where the weights live.

    Raises:
        ValueError: If the file is for another model, mixes algorithms, or holds a kind that is
            not trained here (constrained OFT, DoRA over outputs).
    """
    check_fits(lora, layers, family)
    if len(lora.algorithms) > 1:
        raise ValueError(
            f"{lora.name} mixes {' and '.join(lora.algorithms)}: such a file cannot be "
            "continued; one algorithm trains at a time"
        )
    config = config_of(lora, layers, config)
    chosen = {name: shape for name, shape in layers.items() if name in lora.patches}
    settings = {
        name: _settings(lora.patches[name], chosen[name], config.algorithm) for name in chosen
    }
    adapters = build_adapters(chosen, config, generator, device=device, settings=settings)
    adapters.load_patches({name: patch.to(torch.float32) for name, patch in lora.patches.items()})
    return adapters


def config_of(
    lora: LoraFile, layers: Mapping[str, LayerShape], config: AdapterConfig
) -> AdapterConfig:
    """Return ``config`` with the algorithm, the usual rank and the alpha of a file."""
    algorithms: dict[str, Algorithm] = {
        "lora": config.algorithm if config.algorithm in ("locon", "rslora") else "lora",
        "dora": "dora",
        "loha": "loha",
        "lokr": "lokr",
        "oft": "oft",
    }
    rank = next(iter(lora.ranks)) or config.rank
    alpha = next(iter(lora.alphas))
    return replace(
        config,
        algorithm=algorithms[lora.algorithms[0]],
        rank=rank,
        alpha=alpha if alpha else float(rank),
        lokr_factor=_lokr_factor(lora, layers, config.lokr_factor),
    )


def _settings(patch: LayerPatch, shape: LayerShape, algorithm: Algorithm) -> LayerSettings:
    # A LoKr without products has no rank; one of the layer's size makes PEFT build it whole.
    rank = patch.rank or max(shape.in_features, shape.out_features)
    if patch.form == "oft":
        return LayerSettings(rank=rank, alpha=1.0)
    divisor = rank**0.5 if algorithm == "rslora" else rank
    return LayerSettings(rank=rank, alpha=patch.scale * divisor)


def _lokr_factor(lora: LoraFile, layers: Mapping[str, LayerShape], default: int) -> int:
    """Return the setting under which PEFT gives every first factor the file's shape."""
    import_peft()
    from peft.tuners.lokr.layer import factorization

    found = {
        name: tuple(patch.tensors["lokr_w1"].shape)
        for name, patch in lora.patches.items()
        if "lokr_w1" in patch.tensors
    }

    def fits(factor: int) -> bool:
        return all(
            (
                factorization(layers[name].out_features, factor)[0],
                factorization(layers[name].in_features, factor)[0],
            )
            == shape
            for name, shape in found.items()
        )

    candidates = [default, -1, *sorted({size for shape in found.values() for size in shape})]
    return next((factor for factor in candidates if fits(factor)), default)
