"""Small SDXL and FLUX models as genuine ComfyUI MODEL objects, and what tests measure on them."""

import hashlib
import json

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.supported_models
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from torch import nn

SDXL = {
    "use_checkpoint": False,
    "image_size": 32,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": 1536 + 40,
    "in_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "transformer_depth": [0, 1],
    "channel_mult": [1, 2],
    "transformer_depth_middle": 2,
    "use_linear_in_transformer": True,
    "context_dim": 48,
    "num_head_channels": 32,
    "transformer_depth_output": [0, 0, 1, 1],
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 32,
    "context_in_dim": 48,
    "hidden_size": 64,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
CHANNELS = {"sdxl": 4, "flux": 16}
POOLED = {"sdxl": 40, "flux": 32}


CONFIGS = {
    "sdxl": (comfy.supported_models.SDXL, SDXL),
    "flux": (comfy.supported_models.Flux, FLUX),
}
STORAGE = {  # name: (dtype of the weights, dtype of the computation)
    "fp32": (torch.float32, None),
    "bf16": (torch.bfloat16, None),
    "fp16": (torch.float16, None),
    "fp8": (torch.float8_e4m3fn, torch.float32),
    "int8-quantised": (torch.float32, None),
    "fp8-quantised": (torch.float32, None),
}
FORMATS = {"int8-quantised": "int8_tensorwise", "fp8-quantised": "float8_e4m3fn"}


def build(family: str, storage: str = "fp32", *, state: dict | None = None, seed: int = 0):
    """Return a MODEL as a loader node makes it: in inference mode, weights from a state dict.

    ``state`` (what ComfyUI finds beside the weights, such as ``v_pred``) selects the prediction.
    """
    with torch.inference_mode(True):
        config_class, unet = CONFIGS[family]
        config = config_class(dict(unet))
        dtype, compute = STORAGE[storage]
        config.set_inference_dtype(dtype, compute)
        if storage in FORMATS:
            config.quant_config = {"mixed_ops": True}
            config.custom_operations = comfy.ops.mixed_precision_ops({}, torch.float32)
        network = config.get_model(state or {}, "")
        diffusion = network.diffusion_model
        if storage in FORMATS:
            plain = CONFIGS[family][0](dict(unet))
            plain.set_inference_dtype(torch.float32, None)
            source = plain.get_model({}, "").diffusion_model
            initialise(source, seed)
            weights = quantised(source, FORMATS[storage])
            missing, unexpected = diffusion.load_state_dict(weights, strict=False)
            assert not missing
            assert not unexpected
        else:
            initialise(diffusion, seed)
        comfy.model_management.archive_model_dtypes(diffusion)
        network.requires_grad_(False)
        patcher = comfy.model_patcher.ModelPatcher(
            network,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )
    patcher.cached_patcher_init = (lambda *_, **__: build(family, storage), (f"tiny_{family}",))
    return patcher


def initialise(module: nn.Module, seed: int) -> None:
    """Draw every parameter, so that outputs and gradients of all layers are far from zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            drawn = drawn / parameter[0].numel() ** 0.5
        else:
            drawn = 0.05 * drawn + (0.0 if name.endswith("bias") else 1.0)
        parameter.data.copy_(drawn.to(parameter.dtype))


def quantised(module: nn.Module, form: str) -> dict:
    """Return a state dict whose linear layers are quantised as ComfyUI's checkpoints are."""
    state = dict(module.state_dict())
    layout = QUANT_ALGOS[form]["comfy_tensor_layout"]
    note = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            weight = QuantizedTensor.from_float(layer.weight.data, layout, scale="recalculate")
            del state[f"{name}.weight"]
            state.update(weight.state_dict(f"{name}.weight"), **{f"{name}.comfy_quant": note})
    return state


def fingerprint(patcher) -> dict[str, str]:
    """Return everything about a MODEL's network that a session must leave as it was."""
    network = patcher.model
    weights = hashlib.sha256()
    for name, parameter in network.named_parameters():
        parts = [parameter]
        if isinstance(parameter, QuantizedTensor):
            parts = list(parameter.state_dict("").values())
        for part in parts:
            plain = part.detach().clone().contiguous().flatten()
            weights.update(name.encode() + plain.view(torch.uint8).cpu().numpy().tobytes())
    return {
        "weights": weights.hexdigest(),
        "keys": repr(sorted(network.state_dict())),
        "tree": repr([(n, type(m).__name__, m.training) for n, m in network.named_modules()]),
        "forwards": repr([n for n, m in network.named_modules() if "forward" in m.__dict__]),
        "hooks": repr([n for n, m in network.named_modules() if m._forward_hooks]),
        "parameters": repr(
            [(n, p.requires_grad, p.dtype, p.is_inference()) for n, p in parameters(network)]
        ),
        "gradients": repr([n for n, p in parameters(network) if p.grad is not None]),
        "injections": repr(sorted(patcher.injections)),
        "options": repr(sorted(patcher.model_options["transformer_options"])),
    }


def parameters(network: nn.Module) -> list:
    return list(network.named_parameters())


def adapters(host, names=None, *, seed: int = 5, dropout: float = 0.0) -> dict:
    """Return PEFT LoRA layers with non-zero weights for some layers of a host, by name.

    PEFT builds each on a stand-in without weights, as the engine does.
    """
    from peft import LoraConfig, inject_adapter_in_model

    generator = torch.Generator().manual_seed(seed)
    built = {}
    for name, shape in host.layers().items():
        if names is not None and name not in names:
            continue
        holder = nn.Module()
        sizes = (shape.in_features, shape.out_features)
        holder.layer = (
            nn.Linear(*sizes, bias=False, device="meta")
            if shape.kind == "linear"
            else nn.Conv2d(
                *sizes, shape.kernel_size, shape.stride, shape.padding, bias=False, device="meta"
            )
        )
        config = LoraConfig(r=2, lora_alpha=4, lora_dropout=dropout, target_modules=["layer"])
        inject_adapter_in_model(config, holder)
        adapter = holder.layer
        for factors in (adapter.lora_A, adapter.lora_B):
            factors.to_empty(device="cpu").float()
            for weight in factors.parameters():
                drawn = torch.randn(weight.shape, generator=generator)
                weight.data = 0.5 * drawn / weight[0].numel() ** 0.5
        built[name] = adapter
    return built


def kohya(adapters: dict) -> dict[str, torch.Tensor]:
    """Return adapters as the tensors of a LoRA file."""
    file = {}
    for name, adapter in adapters.items():
        key = "lora_unet_" + name.replace(".", "_")
        file[f"{key}.lora_down.weight"] = adapter.lora_A["default"].weight.detach().clone()
        file[f"{key}.lora_up.weight"] = adapter.lora_B["default"].weight.detach().clone()
        file[f"{key}.alpha"] = torch.tensor(4.0)
    return file


def batch(family: str):
    """Return noised latents, sigmas and conditioning of two different images."""
    from trustopt_pack.trustopt.host import Conditioning, Geometry

    conditioning = Conditioning(
        prompts=[prompt(family, seed=seed) for seed in (1, 2)],
        geometry=[
            Geometry(original=(640, 480), crop=(0, 16), target=(64, 64)),
            Geometry(original=(300, 900), crop=(8, 0), target=(64, 64)),
        ],
        guidance=2.0,
    )
    sigma = {"sdxl": torch.tensor([0.7, 6.0]), "flux": torch.tensor([0.3, 0.8])}[family]
    return latents(family, 2), sigma, conditioning


def train_step(host, adapters: dict, *, checkpointing: bool = True):
    """Take one forward and backward the way a node does; return output and gradients.

    Nodes run in inference mode, and so does everything around the session here.
    """
    for parameter in trained(adapters):
        parameter.grad = None
    with torch.inference_mode(True):
        noised, sigma, conditioning = batch(host.family)
        target = latents(host.family, 2, seed=9)
        with host.session(adapters, checkpointing=checkpointing):
            output = host.denoise(noised, sigma, conditioning)
            (output - target.clone()).square().mean().backward()
            found = [p.grad.clone() for p in trained(adapters)]
            output = output.detach().clone()
    return output, found


def trained(adapters: dict) -> list[nn.Parameter]:
    """Return the parameters of adapters, in order."""
    return [p for adapter in adapters.values() for p in adapter.parameters() if p.requires_grad]


def prompt(family: str, *, tokens: int = 8, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return one caption as the text encoders would give it."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "context": torch.randn(tokens, 48, generator=generator),
        "pooled": torch.randn(POOLED[family], generator=generator),
    }


def latents(family: str, count: int = 1, *, side: int = 8, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, CHANNELS[family], side, side, generator=generator)


def sample(patcher, family: str, *, given: dict | None = None, steps: int = 2) -> torch.Tensor:
    """Run ComfyUI's KSampler code and return the latents."""
    one, seed = given or prompt(family), 3
    conditions = [[one["context"][None], {"pooled_output": one["pooled"][None]}]]
    empty = torch.zeros(1, CHANNELS[family], 8, 8)
    noise = comfy.sample.prepare_noise(empty, seed)
    with torch.inference_mode(True):
        return comfy.sample.sample(
            patcher,
            noise,
            steps,
            2.0,
            "euler",
            "normal",
            conditions,
            conditions,
            empty,
            disable_pbar=True,
            seed=seed,
        ).clone()
