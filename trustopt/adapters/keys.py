"""Canonical layer names <-> the layer names in LoRA files, by table, never by live modules.

Kohya names join a path with underscores; words that hold underscores themselves are listed here,
so that a name can be taken apart again for a model of any depth.
"""

from ..host import Family
from .targets import is_text_encoder

_ENCODERS = {"te1": "clip_l", "te2": "clip_g", "te3": "t5xxl"}

_COMPOUND_WORDS = (
    # SDXL's UNet in LDM names
    "input_blocks output_blocks middle_block time_embed label_emb in_layers out_layers emb_layers "
    "skip_connection proj_in proj_out transformer_blocks to_q to_k to_v to_out "
    # FLUX in BFL names
    "double_blocks single_blocks img_attn txt_attn img_mlp txt_mlp img_mod txt_mod img_in txt_in "
    "time_in vector_in guidance_in in_layer out_layer final_layer adaLN_modulation "
    # both in diffusers names
    "down_blocks up_blocks mid_block time_emb_proj conv_shortcut time_embedding add_embedding "
    "linear_1 linear_2 conv_in conv_out single_transformer_blocks add_q_proj add_k_proj "
    "add_v_proj to_add_out ff_context norm1_context proj_mlp norm_out x_embedder "
    "context_embedder time_text_embed timestep_embedder text_embedder guidance_embedder "
    # text encoders
    "text_model self_attn q_proj k_proj v_proj out_proj text_projection wi_0 wi_1"
)
_WORDS = frozenset(_COMPOUND_WORDS.split())
_LONGEST = max(word.count("_") + 1 for word in _WORDS)


def kohya_name(name: str) -> str:
    """Return ``lora_unet_…`` or ``lora_te1_…`` of a canonical name."""
    prefix = "lora_" if is_text_encoder(name) else "lora_unet_"
    return prefix + name.replace(".", "_")


def comfy_name(name: str) -> str:
    """Return ComfyUI's own path of a canonical name: ``diffusion_model.…``, ``text_encoders.…``."""
    if is_text_encoder(name):
        encoder, path = name.split(".", 1)
        return f"text_encoders.{_ENCODERS[encoder]}.transformer.{path}"
    return f"diffusion_model.{name}"


def split_words(flat: str) -> str:
    """Return the dotted path of an underscored one: ``attn1_to_out_0`` -> ``attn1.to_out.0``."""
    parts = flat.split("_")
    path, start = [], 0
    while start < len(parts):
        for length in range(min(_LONGEST, len(parts) - start), 0, -1):
            word = "_".join(parts[start : start + length])
            if length == 1 or word in _WORDS:
                path.append(word)
                start += length
                break
    return ".".join(path)


def model_family(name: str) -> Family | None:
    """Return the family a canonical name belongs to; None for text encoders and unknown names."""
    head = name.split(".", 1)[0]
    if head in ("input_blocks", "output_blocks", "middle_block", "time_embed", "label_emb", "out"):
        return "sdxl"
    if head in ("double_blocks", "single_blocks", "final_layer"):
        return "flux"
    return "flux" if head in ("img_in", "txt_in", "time_in", "vector_in", "guidance_in") else None
