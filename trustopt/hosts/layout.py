"""The shapes of the two families' networks as data: the one place their block structure is known.

A layout yields the diffusers config, the LDM/BFL config and, through ``names`` and
``tiny.shapes``, every module's name and size. Full size and tiny differ in numbers only.

Letters of channel counts: C latent, D text context, P pooled text, H hidden.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

SIZE_EMBEDDING = 6 * 256
"""SDXL's six size and crop numbers, 256 sinusoids each, appended to the pooled text."""


@dataclass(frozen=True, kw_only=True)
class UNetBlock:
    """One resnet, transformer or resampling convolution of the SDXL UNet, under both its names."""

    kind: Literal["resnet", "transformer", "resample"]
    canonical: str
    """LDM path, ``input_blocks.4.1``."""
    diffusers: str
    """diffusers path, ``down_blocks.1.attentions.0``."""
    in_channels: int
    out_channels: int
    depth: int = 0
    """Blocks inside a transformer."""


@dataclass(frozen=True, kw_only=True)
class UNetLayout:
    """An SDXL UNet: resnets and transformers on a few levels, each half the side of the last.

    Source:
        Podell et al. 2023, "SDXL", arXiv:2307.01952, section 2.1 and table 1.
    """

    latent_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280)
    """Width of each level; the middle has the last level's."""
    depths: tuple[int, ...] = (0, 2, 10)
    """Transformer blocks behind each resnet of a level; the middle has the last level's."""
    head_dim: int = 64
    context_dim: int = 2048
    pooled_dim: int = 1280
    resnets: int = 2
    """Resnets a level going down; one more going up."""

    @property
    def time_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]

    @property
    def vector_dim(self) -> int:
        """Width of what joins the time embedding: pooled text and size numbers."""
        return self.pooled_dim + SIZE_EMBEDDING

    def blocks(self) -> Iterator[UNetBlock]:
        """Yield every block in the order data passes through."""
        skips = [self.channels[0]]
        yield from self._down(skips)
        width, depth = self.channels[-1], self.depths[-1]
        for index, (kind, name) in enumerate(
            (("resnet", "resnets.0"), ("transformer", "attentions.0"), ("resnet", "resnets.1"))
        ):
            yield UNetBlock(
                kind=kind,  # pyright: ignore[reportArgumentType]
                canonical=f"middle_block.{index}",
                diffusers=f"mid_block.{name}",
                in_channels=width,
                out_channels=width,
                depth=depth if kind == "transformer" else 0,
            )
        yield from self._up(skips)

    def _down(self, skips: list[int]) -> Iterator[UNetBlock]:
        index, width = 1, self.channels[0]
        for level, out in enumerate(self.channels):
            theirs = f"down_blocks.{level}"
            for resnet in range(self.resnets):
                yield from _pair(
                    f"input_blocks.{index}", theirs, resnet, width, out, self.depths[level]
                )
                width = out
                skips.append(width)
                index += 1
            if level < len(self.channels) - 1:
                yield UNetBlock(
                    kind="resample",
                    canonical=f"input_blocks.{index}.0.op",
                    diffusers=f"{theirs}.downsamplers.0.conv",
                    in_channels=width,
                    out_channels=width,
                )
                skips.append(width)
                index += 1

    def _up(self, skips: list[int]) -> Iterator[UNetBlock]:
        index, width = 0, self.channels[-1]
        for up, level in enumerate(reversed(range(len(self.channels)))):
            theirs, out, depth = f"up_blocks.{up}", self.channels[level], self.depths[level]
            for resnet in range(self.resnets + 1):
                ours = f"output_blocks.{index}"
                yield from _pair(ours, theirs, resnet, width + skips.pop(), out, depth)
                width = out
                if level and resnet == self.resnets:
                    yield UNetBlock(
                        kind="resample",
                        canonical=f"{ours}.{2 if depth else 1}.conv",
                        diffusers=f"{theirs}.upsamplers.0.conv",
                        in_channels=width,
                        out_channels=width,
                    )
                index += 1

    def ldm_config(self) -> dict[str, Any]:
        """Return the ``unet_config`` that LDM code (ComfyUI) builds the UNet from."""
        resnets, depths = self.resnets, self.depths
        return {
            "image_size": 32,
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "model_channels": self.channels[0],
            "channel_mult": [width // self.channels[0] for width in self.channels],
            "num_res_blocks": [resnets] * len(depths),
            "transformer_depth": [d for d in depths for _ in range(resnets)],
            "transformer_depth_middle": depths[-1],
            "transformer_depth_output": [d for d in depths for _ in range(resnets + 1)],
            "num_heads": -1,
            "num_head_channels": self.head_dim,
            "context_dim": self.context_dim,
            "num_classes": "sequential",
            "adm_in_channels": self.vector_dim,
            "use_checkpoint": False,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "legacy": False,
            "use_temporal_attention": False,
            "use_temporal_resblock": False,
        }

    def diffusers_config(self) -> dict[str, Any]:
        """Return the arguments of diffusers' ``UNet2DConditionModel``."""
        kinds = ["CrossAttn" if depth else "" for depth in self.depths]
        return {
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "block_out_channels": list(self.channels),
            "layers_per_block": self.resnets,
            "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
            "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
            "transformer_layers_per_block": [max(depth, 1) for depth in self.depths],
            # diffusers' name for the number of heads of a level, kept for old files' sake.
            "attention_head_dim": [width // self.head_dim for width in self.channels],
            "cross_attention_dim": self.context_dim,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": self.vector_dim,
        }


def _pair(
    canonical: str, diffusers: str, resnet: int, width: int, out: int, depth: int
) -> Iterator[UNetBlock]:
    """Yield a resnet and, where the level has one, the transformer behind it."""
    yield UNetBlock(
        kind="resnet",
        canonical=f"{canonical}.0",
        diffusers=f"{diffusers}.resnets.{resnet}",
        in_channels=width,
        out_channels=out,
    )
    if depth:
        yield UNetBlock(
            kind="transformer",
            canonical=f"{canonical}.1",
            diffusers=f"{diffusers}.attentions.{resnet}",
            in_channels=out,
            out_channels=out,
            depth=depth,
        )


@dataclass(frozen=True, kw_only=True)
class FluxLayout:
    """A FLUX.1 transformer: double-stream blocks, then single-stream blocks.

    Source:
        black-forest-labs/flux ``src/flux/model.py``; the numbers are ``flux-dev``'s.
    """

    latent_channels: int = 16
    hidden: int = 3072
    head_dim: int = 128
    axes_dim: tuple[int, int, int] = (16, 56, 56)
    """Channels of a head that carry the index, row and column position."""
    double_blocks: int = 19
    single_blocks: int = 38
    context_dim: int = 4096
    pooled_dim: int = 768
    guidance: bool = True
    """Whether guidance is an input, as in the distilled model (dev); not in schnell."""

    @property
    def mlp(self) -> int:
        """Width inside a block's MLP."""
        return 4 * self.hidden

    @property
    def patch_channels(self) -> int:
        """Channels of one 2 x 2 patch of latents."""
        return 4 * self.latent_channels

    def bfl_config(self) -> dict[str, Any]:
        """Return the ``unet_config`` that BFL code (ComfyUI) builds the transformer from."""
        return {
            "image_model": "flux",
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "vec_in_dim": self.pooled_dim,
            "context_in_dim": self.context_dim,
            "hidden_size": self.hidden,
            "mlp_ratio": 4.0,
            "num_heads": self.hidden // self.head_dim,
            "depth": self.double_blocks,
            "depth_single_blocks": self.single_blocks,
            "axes_dim": list(self.axes_dim),
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": self.guidance,
            "txt_ids_dims": [],
        }

    def diffusers_config(self) -> dict[str, Any]:
        """Return the arguments of diffusers' ``FluxTransformer2DModel``."""
        return {
            "patch_size": 1,
            "in_channels": self.patch_channels,
            "num_layers": self.double_blocks,
            "num_single_layers": self.single_blocks,
            "attention_head_dim": self.head_dim,
            "num_attention_heads": self.hidden // self.head_dim,
            "joint_attention_dim": self.context_dim,
            "pooled_projection_dim": self.pooled_dim,
            "guidance_embeds": self.guidance,
            "axes_dims_rope": list(self.axes_dim),
        }


@dataclass(frozen=True, kw_only=True)
class VAELayout:
    """The image autoencoder of either family: resnets on four levels, factor 8.

    Source:
        CompVis/latent-diffusion ``ldm/modules/diffusionmodules/model.py``.
    """

    latent_channels: int
    scale: float
    """The network's latents are ``(z - shift) * scale``."""
    shift: float = 0.0
    quant_conv: bool = True
    """Whether 1 x 1 convolutions stand at both sides of the latents; FLUX has none."""
    channels: tuple[int, ...] = (128, 256, 512, 512)
    resnets: int = 2
    """Resnets a level of the encoder; one more in the decoder."""

    def ldm_config(self) -> dict[str, Any]:
        """Return the ``ddconfig`` that LDM code (ComfyUI) builds encoder and decoder from."""
        return {
            "double_z": True,
            "z_channels": self.latent_channels,
            "resolution": 256,
            "in_channels": 3,
            "out_ch": 3,
            "ch": self.channels[0],
            "ch_mult": [width // self.channels[0] for width in self.channels],
            "num_res_blocks": self.resnets,
            "attn_resolutions": [],
            "dropout": 0.0,
        }

    def diffusers_config(self) -> dict[str, Any]:
        """Return the arguments of diffusers' ``AutoencoderKL``."""
        levels = len(self.channels)
        return {
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": list(self.channels),
            "layers_per_block": self.resnets,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "latent_channels": self.latent_channels,
            "norm_num_groups": 32,
            "scaling_factor": self.scale,
            "shift_factor": self.shift or None,
            "use_quant_conv": self.quant_conv,
            "use_post_quant_conv": self.quant_conv,
        }


SDXL_UNET = UNetLayout()
FLUX_TRANSFORMER = FluxLayout()
SDXL_VAE = VAELayout(latent_channels=4, scale=0.13025)
FLUX_VAE = VAELayout(latent_channels=16, scale=0.3611, shift=0.1159, quant_conv=False)
