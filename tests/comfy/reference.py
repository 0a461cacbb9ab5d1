"""A plain twin of a training forward: no host, no PEFT, no injection, nothing in place.

It runs a deep copy of the network with the LoRA added to its weights, and spells out noise
scaling, timesteps and size labels by their formulas.
"""

import copy
import inspect
import math
import re
import sys

import comfy.ldm.flux.layers as flux_layers
import comfy.ldm.modules.attention
import comfy.model_management
import torch
from torch import Tensor, nn


def out_of_place(block_class: type) -> type:
    """Return a subclass whose forward has ``x = x + y`` wherever the source has ``x += y``."""
    source = inspect.cleandoc("\n" + inspect.getsource(block_class.forward))
    rewritten, count = re.subn(r"(\w+) \+= (.+)", r"\1 = \1 + (\2)", source)
    assert count > 0
    namespace = dict(vars(sys.modules[block_class.__module__]))
    exec(rewritten, namespace)  # noqa: S102
    return type(block_class.__name__, (block_class,), {"forward": namespace["forward"]})


class Reference:
    """A deep copy of a MODEL's network in float32, with a LoRA of its own."""

    def __init__(self, patcher, adapters: dict[str, nn.Module]) -> None:
        with torch.inference_mode(False):
            self.network = copy.deepcopy(patcher.model.diffusion_model).float()
        for module in self.network.modules():
            for plain in (flux_layers.DoubleStreamBlock, flux_layers.SingleStreamBlock):
                if type(module) is plain:
                    module.__class__ = out_of_place(plain)
        self.factors = {}
        for name, adapter in adapters.items():
            down = adapter.lora_A["default"].weight.detach().clone().requires_grad_()
            up = adapter.lora_B["default"].weight.detach().clone().requires_grad_()
            self.factors[name] = (down, up, adapter.scaling["default"])

    def parameters(self) -> list[Tensor]:
        return [factor for down, up, _ in self.factors.values() for factor in (down, up)]

    def weights(self) -> dict[str, Tensor]:
        """Return W + scale * up @ down of every adapted layer."""
        merged = {}
        for name, (down, up, scale) in self.factors.items():
            weight = self.network.get_submodule(name).weight
            change = up.flatten(1) @ down.flatten(1)
            merged[f"{name}.weight"] = weight + scale * change.reshape(weight.shape)
        return merged

    def run(self, x: Tensor, timestep: Tensor, **arguments: Tensor) -> Tensor:
        options = {"optimized_attention_override": plain_attention}
        comfy.model_management.in_training = True
        try:
            return torch.func.functional_call(
                self.network,
                self.weights(),
                (x, timestep),
                {**arguments, "transformer_options": options},
            )
        finally:
            comfy.model_management.in_training = False

    def train_step(self, host) -> tuple[Tensor, list[Tensor]]:
        """Return output and gradients of ``models.train_step``."""
        import trustopt_test_models as tiny

        noised, sigma, conditioning = tiny.batch(host.family)
        prompts = conditioning.prompts
        if host.family == "sdxl":
            output = self.sdxl(noised, sigma, prompts, conditioning.geometry, host.sigmas)
        else:
            output = self.flux(noised, sigma, prompts, conditioning.guidance)
        loss = (output - tiny.latents(host.family, 2, seed=9)).square().mean()
        return output.detach(), list(torch.autograd.grad(loss, self.parameters()))

    def sdxl(self, noised: Tensor, sigma: Tensor, prompts, geometry, sigmas: Tensor) -> Tensor:
        """Run SDXL on variance-exploding ``noised``; ``sigmas`` is the model's table."""
        scaled = noised / (sigma.square() + 1).sqrt()[:, None, None, None]
        timestep = (sigma.log()[:, None] - sigmas.log()).abs().argmin(1).float()
        labels = [
            torch.cat([p["pooled"], *(embedding(n, 256) for n in six_numbers(g))])
            for p, g in zip(prompts, geometry, strict=True)
        ]
        context = torch.stack([p["context"] for p in prompts])
        return self.run(scaled, timestep, context=context, y=torch.stack(labels))

    def flux(self, noised: Tensor, sigma: Tensor, prompts, guidance: float) -> Tensor:
        """Run FLUX, whose time is sigma itself."""
        return self.run(
            noised,
            sigma,
            context=torch.stack([p["context"] for p in prompts]),
            y=torch.stack([p["pooled"] for p in prompts]),
            guidance=torch.full_like(sigma, guidance),
        )


def six_numbers(geometry) -> list[float]:
    """Return SDXL's labels in its order: original, crop, target; height before width."""
    pairs = (geometry.original, geometry.crop, geometry.target)
    return [float(n) for width, height in pairs for n in (height, width)]


def embedding(value: float, size: int) -> Tensor:
    half = size // 2
    angles = value * torch.exp(-math.log(10000) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()])


def plain_attention(_, *args, **kwargs) -> Tensor:
    return comfy.ldm.modules.attention.attention_basic(*args, **kwargs)


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the relative L2 distance of two lists of tensors, taken as one vector each."""
    one, other = (torch.cat([t.flatten() for t in tensors]) for tensors in (found, expected))
    return float((one - other).norm() / other.norm())


def worst_relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest relative L2 distance of any one tensor; each must be far from zero."""
    assert len(found) == len(expected) > 0
    assert all(other.norm() > 0 for other in expected)
    pairs = zip(found, expected, strict=True)
    return max(relative_error([one], [other]) for one, other in pairs)
