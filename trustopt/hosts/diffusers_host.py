"""The headless host: diffusers' networks and VAE, transformers' text encoders."""

import hashlib
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..addresses import WeightAddresses
from ..host import (
    Conditioning,
    Family,
    HostMemory,
    LatentDistribution,
    LayerShape,
    Prediction,
    PreparedForward,
    Prompt,
)
from .device_memory import free_bytes, weight_bytes
from .flux import FluxDenoiser
from .insertion import inserted, trainable_layers
from .names import Names, Part
from .sdxl import SDXLDenoiser
from .text import FluxText, SDXLText

logger = logging.getLogger("trustopt")

Denoiser = SDXLDenoiser | FluxDenoiser
_TEXT_LAYER = ".self_attn.", ".mlp."


class DiffusersHost:
    """A ``trustopt.host.Host`` over diffusers and transformers modules.

    Args:
        denoiser: The network, in the dtype it runs in.
        vae: diffusers' ``AutoencoderKL``, float32: half precision overflows in SDXL's.
        text: The text encoders.
        model_name: File or display name of the base model.
        device: Where everything runs.

    The modules are frozen and put into evaluation mode. On an accelerator, network, text encoders
    and VAE take turns: whichever does not run waits in main memory.
    """

    pixels_per_latent = 8

    def __init__(
        self,
        denoiser: Denoiser,
        vae: nn.Module,
        text: SDXLText | FluxText,
        *,
        model_name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.family: Family = "sdxl" if isinstance(denoiser, SDXLDenoiser) else "flux"
        self.model_name = model_name
        self.prediction: Prediction = denoiser.prediction
        self.sigmas = denoiser.sigmas
        self.flow_shift = denoiser.flow_shift
        self.latent_channels = denoiser.latent_channels
        self.pixel_multiple = denoiser.pixel_multiple
        self.device = torch.device(device)
        self.dtype = next(denoiser.network.parameters()).dtype
        self.vae: Any = vae
        self.text = text
        self._denoiser = denoiser
        self._kept: frozenset[str] = frozenset()
        """What a session keeps on the device: ``network``, perhaps ``text``; outside, nothing."""
        self._placed: frozenset[str] | None = None
        """What is on the device, as far as this host has moved it."""
        for module in (self.network, self.vae, *text.models.values()):
            module.requires_grad_(False).train(False)
        self._weights = WeightAddresses(self.network)
        # Asked once: inside a session, adapters stand where the layers were.
        self._places = {"": denoiser.names, **{te: _text_names(te, text) for te in text.trainable}}
        self._layers = self._find_layers()
        self._identity = self._identify()

    @property
    def network(self) -> nn.Module:
        """The diffusers module."""
        return self._denoiser.network

    def identity(self) -> Mapping[str, str]:
        """Return name, family, and hashes of a few weights of network, VAE and encoders."""
        return self._identity

    def layers(self) -> Mapping[str, LayerShape]:
        """Return every layer that may carry an adapter, sorted by canonical name."""
        return self._layers

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> LatentDistribution:
        """Encode ``(B, 3, H, W)`` float32 pixels in [0, 1], one picture at a time."""
        # One by one, a picture's latents are the same bits whatever batch it comes in.
        with self._on_device("vae"):
            parts = [self._encode_image(picture[None]) for picture in pixels]
        return LatentDistribution(
            mean=torch.cat([mean for mean, _ in parts]), std=torch.cat([std for _, std in parts])
        )

    def _encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        posterior = self.vae.encode(pixels.to(self.device) * 2.0 - 1.0).latent_dist
        mean = (posterior.mean - (config.shift_factor or 0.0)) * config.scaling_factor
        return mean.cpu(), (posterior.std * config.scaling_factor).cpu()

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels ``(B, 3, H, W)`` float32 in [0, 1], on the CPU, from network latents."""
        config = self.vae.config
        z = latents.to(self.device, torch.float32) / config.scaling_factor
        z = z + (config.shift_factor or 0.0)
        with self._on_device("vae"):
            pixels = [self.vae.decode(one[None], return_dict=False)[0].cpu() for one in z]
        return (torch.cat(pixels) / 2.0 + 0.5).clamp(0.0, 1.0)

    def encode_prompts(self, captions: Sequence[str]) -> list[Prompt]:
        """Encode captions one by one; in a session that trains the encoders, with gradient."""
        grad = "text" in self._kept and torch.is_grad_enabled()
        with self._on_device("text"), torch.set_grad_enabled(grad):
            return [
                {key: x.to("cpu", self.dtype) for key, x in self.text.encode(caption).items()}
                for caption in captions
            ]

    def memory(self) -> HostMemory:
        """Return what network and text encoders take, and what is free without them."""
        parts, on_cpu = self._parts(), self.device.type == "cpu"
        # In main memory text encoders and VAE stay where they are.
        movable = parts["network"] if on_cpu else [m for part in parts.values() for m in part]
        free = free_bytes(self.device)
        return HostMemory(
            weights=weight_bytes(parts["network"]),
            text_encoders=0 if on_cpu else weight_bytes(parts["text"]),
            available=None if free is None else free + weight_bytes(movable, on=self.device),
        )

    @contextmanager
    def session(
        self, adapters: Mapping[str, nn.Module], *, checkpointing: bool, reserve: int = 0
    ) -> Iterator[None]:
        """Insert adapters for the time of a ``with`` block; see ``Host.session``.

        The whole network is on the device then: ``reserve`` is for hosts that can do otherwise.

        Raises:
            ValueError: If a name is not one of ``layers()``.
            RuntimeError: If a session is open already.
        """
        if self._kept:
            raise RuntimeError(f"{self.model_name} is being trained already: end that session")
        groups = self._by_module(adapters)
        kept = frozenset({"network", "text"} if groups.keys() - {""} else {"network"})
        self._place(kept)
        with ExitStack() as undo:
            undo.callback(setattr, self, "_kept", frozenset())
            self._kept = kept
            for key, group in groups.items():
                undo.enter_context(inserted(self._module(key), self._places[key], group))
            if checkpointing:
                undo.callback(self.network.disable_gradient_checkpointing)  # pyright: ignore
                self.network.enable_gradient_checkpointing(_checkpoint)  # pyright: ignore
            undo.enter_context(torch.enable_grad())
            yield

    def denoise(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network once on a batch; see ``Host.denoise``. Returns float32.

        Outside a session it is the base model that runs.
        """
        return self.prepare(noised, sigma, conditioning)()

    def prepare(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> PreparedForward:
        """Bring what the network takes to the device; see ``Host.prepare``."""
        noised, sigma = noised.to(self.device), sigma.to(self.device)
        inputs = self._denoiser.inputs(noised, sigma, conditioning, self.dtype)
        return PreparedForward(inputs=inputs, run=self._run)

    def _run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        with self._on_device("network"):
            return self._denoiser.run(inputs).float()

    def weights_in_place(self) -> Hashable | None:
        """Return where the network's weights are; they move between sessions only."""
        return self._weights.on(self.device)

    @contextmanager
    def _on_device(self, part: str) -> Iterator[None]:
        """Have a part on the device inside the block, besides what a session keeps there."""
        self._place(self._kept | {part})
        yield
        if self._kept:
            self._place(self._kept)

    def _place(self, parts: frozenset[str]) -> None:
        """Bring what is about to run to the device, and what can wait to main memory."""
        if self.device.type == "cpu" or parts == self._placed:
            return  # asking thousands of modules to stay takes longer than a small step
        self._placed = None
        for part, modules in self._parts().items():
            for module in modules:
                module.to(self.device if part in parts else "cpu")
        self._placed = parts

    def _parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules that move together."""
        return {"network": [self.network], "text": [*self.text.models.values()], "vae": [self.vae]}

    def _find_layers(self) -> dict[str, LayerShape]:
        shapes: dict[str, LayerShape] = {}
        for key, names in self._places.items():
            shapes |= trainable_layers(self._module(key), names)
        return dict(sorted(shapes.items()))

    def _identify(self) -> dict[str, str]:
        encoders = " ".join(_fingerprint(model) for model in self.text.models.values())
        return {
            "name": self.model_name,
            "family": self.family,
            "prediction": self.prediction,
            "network": _fingerprint(self.network),
            "vae": f"{_fingerprint(self.vae)} float32",
            "text_encoders": f"{encoders} {str(self.dtype).removeprefix('torch.')}",
        }

    def _module(self, key: str) -> nn.Module:
        """Return a text encoder, or the network under the empty key."""
        return self.text.models[key] if key else self.network

    def _by_module(self, adapters: Mapping[str, nn.Module]) -> dict[str, dict[str, nn.Module]]:
        """Return adapters by text encoder, the network's under the empty key."""
        unknown = [name for name in adapters if name not in self._layers]
        if unknown:
            raise ValueError(
                f"{self.model_name} ({self.family}) has no layer {unknown[0]!r} "
                f"({len(unknown)} such names): its layers are what layers() returns"
            )
        groups: dict[str, dict[str, nn.Module]] = {}
        for name, adapter in adapters.items():
            encoder = name.partition(".")[0]
            key = encoder if encoder in self.text.trainable else ""
            groups.setdefault(key, {})[name] = adapter
        return groups


def _text_names(encoder: str, text: SDXLText | FluxText) -> Names:
    """Return where the linear layers of a CLIP's transformer are.

    transformers 5 dropped the ``text_model`` level of ``CLIPTextModel``; the name keeps it.
    """
    names = {}
    for path, module in text.models[encoder].named_modules():
        if isinstance(module, nn.Linear) and any(part in path for part in _TEXT_LAYER):
            name = f"{encoder}.text_model.{path.removeprefix('text_model.')}"
            names[name] = (Part(path),)
    return names


def _checkpoint(function: Any, *args: Any) -> Any:
    """Recompute in backward; the global generators stay out of it, nothing here draws."""
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)


def _fingerprint(module: nn.Module) -> str:
    """Return a hash of the first values of a few dozen weights."""
    state = sorted(module.state_dict().items())
    total = hashlib.sha256()
    for name, tensor in state[:: max(1, len(state) // 48)]:
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return total.hexdigest()[:16]
