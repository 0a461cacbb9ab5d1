"""A training step at full size without its memory: tensors that have shapes and no numbers.

ComfyUI's own networks are built under torch's ``FakeTensorMode`` and trained through the engine's
session. Every storage an operation makes is counted until it is freed, so the peak is exact, and
the same on every machine. What a real device adds: its allocator's gaps and libraries' buffers.
"""

from dataclasses import dataclass
from unittest.mock import patch

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.cli.live_bytes import LiveBytes
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.host import Conditioning, Geometry
from trustopt_pack.trustopt.train.activations import TEXT_TOKENS, Workload, activation_bytes

SDXL = {
    "use_checkpoint": False,
    "image_size": 32,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "in_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "channel_mult": [1, 2, 4],
    "transformer_depth_middle": 10,
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_head_channels": 64,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
CONFIGS = {
    "sdxl": (comfy.supported_models.SDXL, SDXL),
    "flux": (comfy.supported_models.Flux, FLUX),
}
PROMPT_WIDTHS = {"sdxl": (2048, 1280), "flux": (4096, 768)}
GIB = 2**30


@dataclass(frozen=True)
class Counts:
    """One training step, in bytes."""

    peak: int
    """The most that lives at once besides weights and adapters, gradients included."""
    gradients: int
    kernels: int
    """Operations that compute something, views left out."""
    parameters: int
    """Of the base network."""
    stored: int
    """Bytes of the base network's weights."""
    adapters: int
    """Bytes of the adapters' own."""
    estimate: int
    """What the memory plan says of the activations."""

    @property
    def total(self) -> int:
        """All of a step at its worst moment: weights, adapters, AdamW's two moments, the step."""
        return self.stored + 3 * self.adapters + self.peak


def step(
    family: str,
    *,
    pixels: int = 1024,
    batch: int = 1,
    checkpointing: bool,
    dtype: torch.dtype = torch.bfloat16,
    targets: str = "default",
    weights_in: torch.dtype | None = None,
) -> Counts:
    """Count one step of a rank 16 LoRA on square pictures.

    ``weights_in`` is the dtype the base model is stored in, where it is not the one it computes in.
    """
    config = AdapterConfig(rank=16, targets=targets)
    # Fake parameters cannot be moved; everything is on one device here anyway.
    staying = patch.object(nn.Module, "to", lambda module, *_, **__: module)
    with FakeTensorMode(allow_non_fake_inputs=True), staying:
        host = ComfyHost(network(family, dtype, weights_in), object(), object())
        layers = select_layers(host.layers(), config, family)
        adapters = build_adapters(layers, config, torch.Generator())
        weights = list(host._model.model.state_dict().values())
        side = pixels // 8
        counted = LiveBytes([*weights, *adapters.parameters()])
        noised, sigma = torch.empty(batch, host.latent_channels, side, side), torch.empty(batch)
        given = conditioning(family, pixels, batch)
        session = host.session(adapters.layers, checkpointing=checkpointing)
        with session, counted, adapters.in_dtype(dtype):
            host.denoise(noised, sigma, given).square().mean().backward()
        gradients = sum(p.grad.numel() * p.grad.element_size() for p in adapters.parameters())
        comfy.model_management.unload_all_models()
    work = Workload(batch=batch, latent_area=side * side, itemsize=dtype.itemsize)
    return Counts(
        peak=counted.peak,
        gradients=gradients,
        kernels=counted.kernels,
        parameters=sum(w.numel() for w in weights),
        stored=sum(w.numel() * w.element_size() for w in weights),
        adapters=4 * adapters.num_parameters,
        estimate=activation_bytes(host.layers(), adapters, family, work)[checkpointing],
    )


def network(family: str, dtype: torch.dtype, weights_in: torch.dtype | None = None):
    """Return a MODEL at full size, made as a loader node makes it."""
    with torch.inference_mode(True):
        config_class, unet = CONFIGS[family]
        config = config_class(dict(unet))
        config.set_inference_dtype(weights_in or dtype, None if weights_in is None else dtype)
        model = config.get_model({}, "")
        comfy.model_management.archive_model_dtypes(model.diffusion_model)
        model.requires_grad_(False)
        cpu = torch.device("cpu")
        return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def conditioning(family: str, pixels: int, batch: int) -> Conditioning:
    width, pooled = PROMPT_WIDTHS[family]
    prompt = {"context": torch.empty(TEXT_TOKENS[family], width), "pooled": torch.empty(pooled)}
    size = (pixels, pixels)
    return Conditioning(
        prompts=[prompt] * batch,
        geometry=[Geometry(original=size, crop=(0, 0), target=size)] * batch,
    )
