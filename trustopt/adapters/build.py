"""Adapters for a set of layers, built by PEFT without the model they belong to.

PEFT sees stand-ins of the layers' shapes on the meta device, inside a throw-away holder: it never
walks the model, reads no weight and draws no random number. The adapters' own weights are then
made here, float32, from the caller's generator.
"""

import importlib.util
import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..config import AdapterConfig
from ..host import LayerShape
from .adapter_set import AdapterSet
from .dropout import DropoutRates, MaskSeed, put_dropout
from .fast_lora import use_fast_forward
from .layers import ZERO_FACTORS, DoraLayer, OftLayer
from .settings import LayerSettings, layer_settings


def build_adapters(
    layers: Mapping[str, LayerShape],
    config: AdapterConfig,
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
    settings: Mapping[str, LayerSettings] | None = None,
) -> AdapterSet:
    """Build one PEFT layer for each given layer; the change they make is zero at first.

    Args:
        layers: Layers to adapt, by canonical name (see ``select_layers``).
        config: Algorithm, ranks, alphas, dropout.
        generator: CPU generator of the initial weights; the only source of randomness.
        device: Where the weights live. On ``meta`` they have shapes only.
        settings: Rank, alpha and lr of each layer, instead of what ``config`` says: for a set
            that continues a file.

    Raises:
        ValueError: If a rank is larger than a layer can use, or the algorithm does not know a
            setting.
        RuntimeError: If peft is not installed.
    """
    if settings is None:
        settings = layer_settings(layers, config)
    rates = DropoutRates(config.dropout, config.rank_dropout, config.module_dropout)
    if config.algorithm == "oft" and (rates.any() or config.max_norm > 0.0):
        raise ValueError(
            "oft has neither dropout nor a norm bound: set dropout, rank_dropout, "
            "module_dropout and max_norm to 0, or choose another algorithm"
        )
    tuners = _peft_layers(layers, config, settings)
    seed = MaskSeed()
    for number, (name, shape) in enumerate(layers.items()):
        tuner = tuners[name]
        _make_weights(tuner, config, generator, torch.device(device))
        if rates.any():
            channel_dim = -1 if shape.kind == "linear" else 1
            put_dropout(tuner, rates, seed, number=number, channel_dim=channel_dim)
        elif config.algorithm in ("lora", "locon", "rslora") and shape.kind == "linear":
            use_fast_forward(tuner)
    return AdapterSet({name: tuners[name] for name in layers}, layers, config, settings, seed)


def _peft_layers(
    layers: Mapping[str, LayerShape],
    config: AdapterConfig,
    settings: Mapping[str, LayerSettings],
) -> dict[str, Any]:
    """Let PEFT build every layer; one pass for each distinct pair of rank and alpha."""
    peft = import_peft()
    groups: dict[tuple[int, float], list[str]] = defaultdict(list)
    for name in layers:
        groups[settings[name].rank, settings[name].alpha].append(name)
    built: dict[str, Any] = {}
    for (rank, alpha), names in groups.items():
        targets = {f"layer{number}": name for number, name in enumerate(names)}
        holder = nn.Module()
        with torch.device("meta"):  # PEFT's own initialisation draws nothing there
            for target, name in targets.items():
                holder.add_module(target, _stand_in(layers[name], config))
            peft_config = _peft_config(peft, config, rank, alpha, list(targets))
            peft.inject_adapter_in_model(peft_config, holder, low_cpu_mem_usage=False)
            for target, name in targets.items():
                built[name] = _without_stand_in(getattr(holder, target), layers[name], config)
    return built


def import_peft() -> Any:
    """Return the peft module.

    Raises:
        RuntimeError: If it cannot be imported; the first line is the command that installs it.
    """
    try:
        import peft
    except ImportError as error:
        # An installed one fails, too, if it is older than the transformers beside it.
        state = "is missing" if importlib.util.find_spec("peft") is None else "is too old"
        raise RuntimeError(
            f"peft {state}: run  {sys.executable} -m pip install --upgrade peft  and start again\n"
            f"(importing it said: {error})"
        ) from error
    return peft


def _peft_config(
    peft: Any, config: AdapterConfig, rank: int, alpha: float, targets: list[str]
) -> Any:
    if config.algorithm == "loha":
        return peft.LoHaConfig(r=rank, alpha=alpha, target_modules=targets)
    if config.algorithm == "lokr":
        return peft.LoKrConfig(
            r=rank, alpha=alpha, decompose_factor=config.lokr_factor, target_modules=targets
        )
    if config.algorithm == "oft":
        return peft.OFTConfig(
            r=0, oft_block_size=rank, use_cayley_neumann=False, target_modules=targets
        )
    is_rslora = config.algorithm == "rslora"
    return peft.LoraConfig(r=rank, lora_alpha=alpha, use_rslora=is_rslora, target_modules=targets)


def _stand_in(shape: LayerShape, config: AdapterConfig) -> nn.Module:
    if config.algorithm == "oft":  # PEFT rotates inputs, ours rotates outputs: see OftLayer
        return nn.Linear(shape.out_features, 1, bias=False)
    if shape.kind == "linear":
        return nn.Linear(shape.in_features, shape.out_features, bias=False)
    return nn.Conv2d(
        shape.in_features,
        shape.out_features,
        shape.kernel_size,
        stride=shape.stride,
        padding=shape.padding,
        bias=False,
    )


def _without_stand_in(tuner: Any, shape: LayerShape, config: AdapterConfig) -> Any:
    """Return the layer a host puts its own base layer into."""
    if config.algorithm == "dora":
        return DoraLayer(tuner)
    if config.algorithm == "oft":
        return OftLayer(tuner, convolution=shape.kind == "conv2d")
    if config.algorithm in ("loha", "lokr"):
        # PEFT asks the base layer for its weight's shape in every forward; a host would have to
        # fetch the whole weight to answer, so the stand-in does.
        stand_in = tuner.base_layer
        tuner.get_base_layer = lambda: stand_in
    tuner.base_layer = None
    # In training mode PEFT's LoHa and LoKr draw from the global generator on every forward.
    return tuner.train(False)


def _make_weights(
    layer: nn.Module, config: AdapterConfig, generator: torch.Generator, device: torch.device
) -> None:
    """Replace the meta parameters and buffers by float32 ones, initialised."""
    for path, meta in list(layer.named_parameters()) + list(layer.named_buffers()):
        owner, _, attribute = path.rpartition(".")
        module = layer.get_submodule(owner)
        if isinstance(meta, nn.Parameter):
            weight = torch.empty(meta.shape, dtype=torch.float32, device=_draw_device(device))
            if weight.device.type != "meta":
                _initialise(path, weight, config.init, generator)
            setattr(module, attribute, nn.Parameter(weight.to(device)))
        elif attribute in ("rows", "cols"):  # of PEFT's rotation: the upper triangle's indices
            size = module.block_size
            rows, cols = torch.triu_indices(size, size, 1, device=device)
            setattr(module, attribute, rows if attribute == "rows" else cols)
        else:
            setattr(module, attribute, torch.zeros(meta.shape, device=device))


def _draw_device(device: torch.device) -> str:
    return "meta" if device.type == "meta" else "cpu"


def _initialise(path: str, weight: Tensor, init: str, generator: torch.Generator) -> None:
    """Fill one weight so that the layer's change is zero.

    One factor of each product is zero and the others are He-uniform, PEFT's default.
    """
    factor = path.partition(".")[0]
    if factor in ZERO_FACTORS:
        nn.init.zeros_(weight)
    elif factor == "magnitude":
        nn.init.ones_(weight)
    elif factor == "lora_A" and init == "gaussian":
        nn.init.normal_(weight, std=1.0 / weight.shape[0], generator=generator)
    else:
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5.0), generator=generator)
