"""What the engine asks of a model: the ``Host`` protocol and the few types that cross it.

Two hosts exist: ComfyUI's loaded MODEL/CLIP/VAE (``nodes/bridge``) and diffusers modules
(``trustopt/hosts/diffusers_host.py``). The engine sees nothing else of either.

Letters: B batch, C latent channels, h w latent height and width, H W pixels, T text tokens.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, device, dtype, nn

Family = Literal["sdxl", "flux"]
"""Model families with a layer table, key table and presets."""

PIXEL_MULTIPLES: Mapping[Family, int] = {"sdxl": 8, "flux": 16}
"""What a picture's sides must be multiples of: FLUX takes 2 x 2 patches of latents."""

Prediction = Literal["eps", "v", "flow"]
"""What the network's raw output is: the noise, the velocity of DDPM, or ``noise - latents``."""

Prompt = Mapping[str, Tensor]
"""One caption as the text encoders give it: ``context (T, D)`` and ``pooled (P,)``, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """Shape of one trainable layer, enough to build an adapter for it without its weights."""

    kind: Literal["linear", "conv2d"]
    in_features: int
    """Input features, or input channels of a convolution."""
    out_features: int
    """Output features, or output channels of a convolution."""
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How one training picture was cut from its original; sizes are ``(width, height)`` pixels.

    SDXL is conditioned on all three, so they must be each picture's own, not the batch's.
    """

    original: tuple[int, int]
    """Size of the file before any resizing."""
    crop: tuple[int, int]
    """``(left, top)`` of the crop in the resized picture."""
    target: tuple[int, int]
    """Size the network trains at: the bucket."""


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Everything a batch of B is conditioned on besides the noise level."""

    prompts: Sequence[Prompt]
    """B prompts; their token counts may differ."""
    geometry: Sequence[Geometry]
    """B geometries; ignored by FLUX."""
    guidance: float = 1.0
    """FLUX's distilled guidance; LoRAs of the distilled model are trained at 1.0."""


@dataclass(frozen=True, kw_only=True)
class LatentDistribution:
    """The VAE's posterior of B pictures in the network's own latent scale, float32 on the CPU.

    Keeping mean and deviation (not one sample) keeps the sampling noise alive in a cache.
    """

    mean: Tensor
    """``(B, C, h, w)``"""
    std: Tensor
    """``(B, C, h, w)``; zeros for a VAE without posterior."""


@dataclass(frozen=True, kw_only=True)
class PreparedForward:
    """One run of the network as a function of tensors, all on the device: ``Host.prepare``.

    Whoever records the kernels of ``run`` can launch them again for other inputs of the same
    shapes, see ``trustopt/train/graphs.py``.
    """

    inputs: Mapping[str, Tensor]
    """All that differs from batch to batch."""
    run: Callable[[Mapping[str, Tensor]], Tensor]
    """Maps such inputs to the network's raw output ``(B, C, h, w)``, see ``Host.denoise``."""
    others: Hashable = ()
    """What ``run`` depends on besides: a recording made for one value is wrong for another."""

    def __call__(self) -> Tensor:
        """Run the network on the inputs."""
        return self.run(self.inputs)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors named ``<prefix>.<name>``, so that several parts' inputs are one mapping."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part_of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one part's tensors again, by its own names; see ``under``."""
    start = f"{prefix}."
    return {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}


@dataclass(frozen=True, kw_only=True)
class HostMemory:
    """What a host can say about its device's memory before training, in bytes."""

    weights: int
    """What the base network's weights take on the device when all of them are there."""
    text_encoders: int = 0
    """The same of the text encoders, which are there only while they are trained."""
    available: int | None = None
    """What the device can give to the base model and its training together, everything else
    moved away that can be; None if that cannot be told."""
    can_offload: bool = False
    """Whether weights may stay off the device and be fetched when they are needed."""


@runtime_checkable
class Host(Protocol):
    """A frozen base model that can be trained through adapters.

    Noise convention (both prediction families): ``sigma`` is float32 ``(B,)``.
    eps/v: ``noised = latents + sigma * noise`` (variance exploding); the host applies
    ``1 / sqrt(sigma**2 + 1)`` and maps sigma to the network's timestep.
    flow: ``noised = (1 - sigma) * latents + sigma * noise`` with sigma in [0, 1].
    """

    family: Family
    model_name: str
    """File or display name of the base model, for metadata."""
    prediction: Prediction
    sigmas: Tensor | None
    """eps/v: the loaded model's noise levels, ascending, float32 ``(1000,)``; flow: None."""
    flow_shift: float | None
    """flow: the loaded model's own mu, ``exp(mu)`` being the shift factor; eps/v: None."""
    latent_channels: int
    pixels_per_latent: int
    """8 for every VAE of the two families."""
    pixel_multiple: int
    """Picture sides must be multiples of this: ``PIXEL_MULTIPLES``."""
    device: device
    dtype: dtype
    """Compute dtype of the base model's activations."""

    def identity(self) -> Mapping[str, str]:
        """Return what tells this base model from another: name, family, hash of a few weights.

        The entries ``vae`` and ``text_encoders`` tell the encoders from others (a hash of a few
        of their weights and the dtype they run in): caches of latents and prompts are keyed by
        them alone, so that one cache serves every network with the same encoders.
        """
        ...

    def layers(self) -> Mapping[str, LayerShape]:
        """Return every layer that may carry an adapter, by canonical name.

        Canonical names are LDM/BFL paths below ``diffusion_model.`` (``input_blocks.4.1.proj_in``,
        ``double_blocks.0.img_attn.qkv``); text encoders are ``te1.…`` and ``te2.…`` with the
        transformers path (``te1.text_model.encoder.layers.0.self_attn.q_proj``).
        """
        ...

    def encode_images(self, pixels: Tensor) -> LatentDistribution:
        """Encode ``(B, 3, H, W)`` float32 pixels in [0, 1], H and W multiples of pixel_multiple."""
        ...

    def encode_prompts(self, captions: Sequence[str]) -> list[Prompt]:
        """Encode captions with the text encoders; one prompt each, in order."""
        ...

    def memory(self) -> HostMemory:
        """Say what the model takes and the device can give; nothing is loaded or moved."""
        ...

    def session(
        self, adapters: Mapping[str, nn.Module], *, checkpointing: bool, reserve: int = 0
    ) -> AbstractContextManager[None]:
        """Insert adapters (canonical name -> PEFT layer) for the time of a ``with`` block.

        Inside the block autograd is on and ``denoise`` runs through the adapters. On every exit,
        whatever the exception, the base model is bit for bit what it was.

        Args:
            adapters: PEFT tuner layers whose ``base_layer`` the host points at the real layer.
            checkpointing: Recompute each block in backward instead of keeping its activations.
            reserve: Bytes of the device to leave free of weights, where the host can choose.
        """
        ...

    def denoise(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network once on a batch, inside a session.

        Args:
            noised: ``(B, C, h, w)`` float32, by the convention of the class.
            sigma: ``(B,)`` float32.
            conditioning: B prompts and geometries.

        Returns:
            The network's raw output ``(B, C, h, w)``: eps, v or flow as ``prediction`` says.
        """
        ...

    def prepare(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> PreparedForward:
        """Do all of ``denoise`` but run the network: its inputs are on the device then."""
        ...

    def weights_in_place(self) -> Hashable | None:
        """Return what changes when a weight of the network moves, inside a session.

        None if some are not on the device to stay, or if other code runs in the network whose
        work cannot be recorded: then every step must run it anew.
        """
        ...
