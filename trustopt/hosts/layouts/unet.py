"""The shape of SDXL's UNet as data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .block import Block, resample, resnet, transformer

SIZE_EMBEDDING = 6 * 256
"""SDXL's six size and crop numbers, 256 sinusoids each, appended to the pooled text."""


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
    norm_groups: int = 32
    """Groups of channels that are normalised together."""

    @property
    def time_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]

    @property
    def vector_dim(self) -> int:
        """Width of what joins the time embedding: pooled text and size numbers."""
        return self.pooled_dim + SIZE_EMBEDDING

    def blocks(self) -> Iterator[Block]:
        """Yield every block in the order data passes through."""
        skips = [self.channels[0]]
        yield from self._down(skips)
        width = self.channels[-1]
        yield resnet("middle_block.0", "mid_block.resnets.0", width, width)
        yield transformer("middle_block.1", "mid_block.attentions.0", width, self.depths[-1])
        yield resnet("middle_block.2", "mid_block.resnets.1", width, width)
        yield from self._up(skips)

    def _down(self, skips: list[int]) -> Iterator[Block]:
        """Yield the descending blocks, adding each skip connection's width to ``skips``."""
        index, width = 1, self.channels[0]
        for level, (out, depth) in enumerate(zip(self.channels, self.depths, strict=True)):
            theirs = f"down_blocks.{level}"
            for number in range(self.resnets):
                ours = f"input_blocks.{index}"
                yield resnet(f"{ours}.0", f"{theirs}.resnets.{number}", width, out)
                if depth:
                    yield transformer(f"{ours}.1", f"{theirs}.attentions.{number}", out, depth)
                width = out
                skips.append(width)
                index += 1
            if level < len(self.channels) - 1:
                yield resample(f"input_blocks.{index}.0.op", f"{theirs}.downsamplers.0.conv", width)
                skips.append(width)
                index += 1

    def _up(self, skips: list[int]) -> Iterator[Block]:
        """Yield the ascending blocks; each takes the last of ``skips`` beside its input."""
        index, width = 0, self.channels[-1]
        for up, level in enumerate(reversed(range(len(self.channels)))):
            theirs, out, depth = f"up_blocks.{up}", self.channels[level], self.depths[level]
            for number in range(self.resnets + 1):
                ours = f"output_blocks.{index}"
                yield resnet(f"{ours}.0", f"{theirs}.resnets.{number}", width + skips.pop(), out)
                if depth:
                    yield transformer(f"{ours}.1", f"{theirs}.attentions.{number}", out, depth)
                width = out
                index += 1
            if level:
                place = f"{ours}.{2 if depth else 1}.conv"
                yield resample(place, f"{theirs}.upsamplers.0.conv", width)

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
            "norm_num_groups": self.norm_groups,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": self.vector_dim,
        }


SDXL_UNET = UNetLayout()
