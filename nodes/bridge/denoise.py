"""One forward pass: what ComfyUI does in sampling, up to the network's raw output."""

import uuid
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ...trustopt.host import Conditioning, part_of, under
from .conditioning import batched, conditions_of

_KEY = "trustopt"
_SAMPLING_ONLY = ("torch.compile", "easycache")
"""Keys of ComfyUI's own wrappers that make sampling faster and training wrong."""


@dataclass(frozen=True)
class Group:
    """Images that one forward pass takes; its tensors are ``<number>.<name>`` among the inputs."""

    indices: tuple[int, ...]
    """Their places in the batch."""
    constants: Mapping[str, Any]
    """Arguments of ``apply_model`` that are no tensors."""


def inputs_of(
    network: Any, noised: Tensor, sigma: Tensor, conditioning: Conditioning, device: torch.device
) -> tuple[dict[str, Tensor], list[Group]]:
    """Return what ``apply_model`` takes for a batch, by ComfyUI's own conditioning.

    Args:
        network: The loaded ``BaseModel``.
        noised: ``(B, C, h, w)`` float32.
        sigma: ``(B,)`` float32.
        conditioning: B prompts and geometries.
        device: The model's device, where the tensors will be.
    """
    noised, sigma = _own(noised, device), _own(sigma, device)
    groups: list[Group] = []
    inputs: dict[str, Tensor] = {}
    for indices, kwargs in batched(conditions_of(network, noised, conditioning, device)):
        # ComfyUI leaves some in main memory until the network runs; a recording must not.
        tensors = {name: x.to(device) for name, x in kwargs.items() if isinstance(x, Tensor)}
        tensors |= {"noised": noised[indices], "sigma": sigma[indices]}
        inputs |= under(str(len(groups)), tensors)
        constants = {name: value for name, value in kwargs.items() if name not in tensors}
        groups.append(Group(tuple(indices), constants))
    return inputs, groups


def others_of(groups: Sequence[Group]) -> Hashable:
    """Return what a recording depends on besides the tensors; unlike any other if it has parts."""
    plain = (type(None), bool, int, float, str)
    constants = [tuple(sorted(group.constants.items())) for group in groups]
    if not all(isinstance(value, plain) for own in constants for _, value in own):
        return object()
    return tuple((group.indices, own) for group, own in zip(groups, constants, strict=True))


def raw_output(
    patcher: Any, network: Any, inputs: Mapping[str, Tensor], groups: Sequence[Group]
) -> Tensor:
    """Return the network's raw output for a batch, before it is turned into denoised latents.

    ComfyUI's ``apply_model`` scales the input, maps sigma to the timestep and runs every wrapper
    and patch on the MODEL; a wrapper outside all others takes the output on its way. So no
    formula is inverted, and eps, v and flow are equally exact.

    Args:
        patcher: The patcher whose options apply.
        network: Its loaded ``BaseModel``.
        inputs: See ``inputs_of``.
        groups: The same.

    Returns:
        ``(B, C, h, w)`` float32 on the model's device.
    """
    rows: dict[int, Tensor] = {}
    for number, group in enumerate(groups):
        own = part_of(str(number), inputs)
        noised, sigma = own.pop("noised"), own.pop("sigma")
        output = _run(patcher, network, noised, sigma, {**own, **group.constants})
        rows |= dict(zip(group.indices, output, strict=True))
    return torch.stack([rows[index] for index in range(len(rows))])


def _run(
    patcher: Any, network: Any, noised: Tensor, sigma: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    outputs: list[Tensor] = []

    def keep(executor: WrapperExecutor, *args: Any, **options: Any) -> Tensor:
        outputs.append(executor(*args, **options))
        return outputs[-1]

    options = training_options(patcher, sigma)
    kept = options["wrappers"].pop(WrappersMP.DIFFUSION_MODEL, {})
    options["wrappers"][WrappersMP.DIFFUSION_MODEL] = {_KEY: [keep], **kept}
    patcher.prepare_state(sigma, {"transformer_options": options})
    network.apply_model(noised, sigma, transformer_options=options, **kwargs)
    return outputs[-1].float()


def training_options(patcher: Any, sigma: Tensor) -> dict[str, Any]:
    """Return the MODEL's ``transformer_options`` for one training forward.

    They are the user's own, wrappers and patches included, but for what makes sampling faster:
    quantised attention (sage and its kin) gives queries and keys no gradient, silently; a
    compiled network holds no adapters; a cache of outputs would answer for other latents.
    """
    cloned = comfy.model_patcher.create_model_options_clone(patcher.model_options)
    options = cloned["transformer_options"]
    for kind, own in (("wrappers", patcher.wrappers), ("callbacks", patcher.callbacks)):
        options[kind] = comfy.patcher_extension.merge_nested_dicts(options.get(kind, {}), own)
    for wrappers in options["wrappers"].values():
        for key in _SAMPLING_ONLY:
            wrappers.pop(key, None)
    options["optimized_attention_override"] = _differentiable_attention
    options["cond_or_uncond"] = [0]
    options["uuids"] = [uuid.uuid4()]
    options["sigmas"] = sigma
    return options


def _differentiable_attention(_: Any, *args: Any, **kwargs: Any) -> Tensor:
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)


def _own(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a float32 tensor on ``device`` that autograd may save."""
    tensor = tensor.to(device, torch.float32)
    return tensor.clone() if tensor.is_inference() else tensor
