"""The shapes of the text encoders as data: CLIP-L, CLIP-G and T5, full size and tiny."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ClipLayout:
    """A CLIP text encoder of 77 positions.

    Source:
        Radford et al. 2021, arXiv:2103.00020 (L); LAION's OpenCLIP ViT-bigG-14 (G).
    """

    hidden: int
    heads: int
    layers: int
    activation: str
    """``quick_gelu`` for L, ``gelu`` for G."""
    projection: bool
    """Whether the pooled text is projected, as G's is."""
    vocabulary: int = 49408
    """The last two ids are the marks of begin and end."""
    pad_with_end: bool = True
    """Whether texts are filled up with the end mark (L) or with id 0 (G)."""
    positions: int = 77

    @property
    def begin(self) -> int:
        """Id of the mark before a text."""
        return self.vocabulary - 2

    @property
    def end(self) -> int:
        """Id of the mark behind a text."""
        return self.vocabulary - 1

    @property
    def pad(self) -> int:
        """Id that fills a text up."""
        return self.end if self.pad_with_end else 0

    def config(self) -> dict[str, Any]:
        """Return the config of transformers' ``CLIPTextModel``, which ComfyUI reads as well."""
        return {
            "model_type": "clip_text_model",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "hidden_act": self.activation,
            "max_position_embeddings": self.positions,
            "projection_dim": self.hidden,
            "layer_norm_eps": 1e-5,
            "bos_token_id": self.begin,
            "eos_token_id": self.end,
            "pad_token_id": self.pad,
        }


@dataclass(frozen=True, kw_only=True)
class T5Layout:
    """The encoder half of a T5 v1.1.

    Source:
        Raffel et al. 2020, arXiv:1910.10683; the gated GELU of v1.1.
    """

    hidden: int = 4096
    heads: int = 64
    head_dim: int = 64
    mlp: int = 10240
    layers: int = 24
    vocabulary: int = 32128
    end: int = 1
    pad: int = 0
    tokens: int = 512
    """Texts are filled up, or cut, to this many tokens."""

    def config(self) -> dict[str, Any]:
        """Return the config of transformers' ``T5EncoderModel``, which ComfyUI reads as well."""
        return {
            "model_type": "t5",
            "vocab_size": self.vocabulary,
            "d_model": self.hidden,
            "d_kv": self.head_dim,
            "d_ff": self.mlp,
            "num_heads": self.heads,
            "num_layers": self.layers,
            "num_decoder_layers": self.layers,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu_pytorch_tanh",
            "is_gated_act": True,
            "relative_attention_num_buckets": 32,
            "layer_norm_epsilon": 1e-6,
            "dropout_rate": 0.0,
            "eos_token_id": self.end,
            "pad_token_id": self.pad,
            "decoder_start_token_id": self.pad,
            "tie_word_embeddings": False,
        }


CLIP_L = ClipLayout(hidden=768, heads=12, layers=12, activation="quick_gelu", projection=False)
CLIP_G = ClipLayout(
    hidden=1280, heads=20, layers=32, activation="gelu", projection=True, pad_with_end=False
)
T5_XXL = T5Layout()
