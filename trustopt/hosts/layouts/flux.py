"""The shape of a FLUX transformer as data."""

from dataclasses import dataclass
from typing import Any


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


FLUX_TRANSFORMER = FluxLayout()
