"""The shape of the image autoencoders as data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .block import Block, resample, resnet


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
    norm_groups: int = 32
    """Groups of channels that are normalised together."""

    def blocks(self) -> Iterator[Block]:
        """Yield every resnet and resampling convolution of both halves, in the order of data."""
        width, last = self.channels[0], len(self.channels) - 1
        for level, out in enumerate(self.channels):
            ours, theirs = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
            for index in range(self.resnets):
                yield resnet(f"{ours}.block.{index}", f"{theirs}.resnets.{index}", width, out)
                width = out
            if level < last:
                yield resample(f"{ours}.downsample.conv", f"{theirs}.downsamplers.0.conv", out)
        for half in ("encoder", "decoder"):
            for index in (0, 1):
                ours, theirs = f"{half}.mid.block_{index + 1}", f"{half}.mid_block.resnets.{index}"
                yield resnet(ours, theirs, width, width)
        for level, out in reversed(list(enumerate(self.channels))):
            ours, theirs = f"decoder.up.{level}", f"decoder.up_blocks.{last - level}"
            for index in range(self.resnets + 1):
                yield resnet(f"{ours}.block.{index}", f"{theirs}.resnets.{index}", width, out)
                width = out
            if level:
                yield resample(f"{ours}.upsample.conv", f"{theirs}.upsamplers.0.conv", out)

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
            "norm_num_groups": self.norm_groups,
            "scaling_factor": self.scale,
            "shift_factor": self.shift or None,
            "use_quant_conv": self.quant_conv,
            "use_post_quant_conv": self.quant_conv,
        }


SDXL_VAE = VAELayout(latent_channels=4, scale=0.13025)
FLUX_VAE = VAELayout(latent_channels=16, scale=0.3611, shift=0.1159, quant_conv=False)
