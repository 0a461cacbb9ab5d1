"""Names and shapes of every tensor in a checkpoint, from its layout.

Names are those of the files people share: LDM for the UNet and the VAE, BFL for FLUX,
transformers for the text encoders.
"""

from .layouts.family import FluxModel, SDXLModel
from .layouts.flux import FluxLayout
from .layouts.text import ClipLayout, T5Layout
from .layouts.unet import UNetLayout
from .layouts.vae import VAELayout

Shapes = dict[str, tuple[int, ...]]


def model_shapes(model: SDXLModel | FluxModel) -> dict[str, Shapes]:
    """Return every component's tensors: ``unet``, ``vae``, ``clip_l``, ``clip_g`` or ``t5xxl``."""
    shapes: dict[str, Shapes]
    if isinstance(model, FluxModel):
        shapes = {"unet": flux_shapes(model.unet), "t5xxl": t5_shapes(model.t5xxl)}
    else:
        shapes = {"unet": unet_shapes(model.unet), "clip_g": clip_shapes(model.clip_g)}
    return shapes | {"vae": vae_shapes(model.vae), "clip_l": clip_shapes(model.clip_l)}


def linear(name: str, out: int, inner: int, *, bias: bool = True) -> Shapes:
    """Return weight and bias of a linear layer."""
    shapes: Shapes = {f"{name}.weight": (out, inner)}
    return shapes | {f"{name}.bias": (out,)} if bias else shapes


def conv(name: str, out: int, inner: int, size: int = 3) -> Shapes:
    """Return weight and bias of a square convolution."""
    return {f"{name}.weight": (out, inner, size, size), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    """Return weight and bias of a group or layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def unet_shapes(layout: UNetLayout) -> Shapes:
    """Return the tensors of an SDXL UNet, without ``model.diffusion_model.``."""
    first, time = layout.channels[0], layout.time_dim
    shapes = linear("time_embed.0", time, first) | linear("time_embed.2", time, time)
    shapes |= linear("label_emb.0.0", time, layout.vector_dim) | linear("label_emb.0.2", time, time)
    shapes |= conv("input_blocks.0.0", first, layout.latent_channels)
    for block in layout.blocks():
        name, inner, out = block.canonical, block.in_channels, block.out_channels
        if block.kind == "resnet":
            shapes |= _unet_resnet(name, inner, out, time)
        elif block.kind == "transformer":
            shapes |= _unet_transformer(name, out, block.depth, layout.context_dim)
        else:
            shapes |= conv(name, out, inner)
    return shapes | norm("out.0", first) | conv("out.2", layout.latent_channels, first)


def _unet_resnet(name: str, inner: int, out: int, time: int) -> Shapes:
    shapes = norm(f"{name}.in_layers.0", inner) | conv(f"{name}.in_layers.2", out, inner)
    shapes |= linear(f"{name}.emb_layers.1", out, time)
    shapes |= norm(f"{name}.out_layers.0", out) | conv(f"{name}.out_layers.3", out, out)
    return shapes if inner == out else shapes | conv(f"{name}.skip_connection", out, inner, 1)


def _unet_transformer(name: str, width: int, depth: int, context: int) -> Shapes:
    shapes = norm(f"{name}.norm", width) | linear(f"{name}.proj_in", width, width)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", context)):
            shapes |= linear(f"{block}.{attention}.to_q", width, width, bias=False)
            shapes |= linear(f"{block}.{attention}.to_k", width, source, bias=False)
            shapes |= linear(f"{block}.{attention}.to_v", width, source, bias=False)
            shapes |= linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= linear(f"{block}.ff.net.0.proj", 8 * width, width)
        shapes |= linear(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            shapes |= norm(f"{block}.norm{number}", width)
    return shapes | linear(f"{name}.proj_out", width, width)


def flux_shapes(layout: FluxLayout) -> Shapes:
    """Return the tensors of a FLUX transformer."""
    hidden, patch = layout.hidden, layout.patch_channels
    shapes = linear("img_in", hidden, patch) | linear("txt_in", hidden, layout.context_dim)
    embedders = {"time_in": 256, "vector_in": layout.pooled_dim}
    if layout.guidance:
        embedders["guidance_in"] = 256
    for name, width in embedders.items():
        shapes |= linear(f"{name}.in_layer", hidden, width)
        shapes |= linear(f"{name}.out_layer", hidden, hidden)
    for index in range(layout.double_blocks):
        for stream in ("img", "txt"):
            shapes |= _flux_stream(f"double_blocks.{index}.{stream}", layout)
    for index in range(layout.single_blocks):
        block = f"single_blocks.{index}"
        shapes |= linear(f"{block}.linear1", 3 * hidden + layout.mlp, hidden)
        shapes |= linear(f"{block}.linear2", hidden, hidden + layout.mlp)
        shapes |= linear(f"{block}.modulation.lin", 3 * hidden, hidden)
        shapes |= _query_key_norm(f"{block}.norm", layout.head_dim)
    shapes |= linear("final_layer.linear", patch, hidden)
    return shapes | linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)


def _flux_stream(name: str, layout: FluxLayout) -> Shapes:
    hidden = layout.hidden
    shapes = linear(f"{name}_mod.lin", 6 * hidden, hidden)
    shapes |= linear(f"{name}_attn.qkv", 3 * hidden, hidden)
    shapes |= _query_key_norm(f"{name}_attn.norm", layout.head_dim)
    shapes |= linear(f"{name}_attn.proj", hidden, hidden)
    shapes |= linear(f"{name}_mlp.0", layout.mlp, hidden)
    return shapes | linear(f"{name}_mlp.2", hidden, layout.mlp)


def _query_key_norm(name: str, width: int) -> Shapes:
    return {f"{name}.query_norm.scale": (width,), f"{name}.key_norm.scale": (width,)}


def vae_shapes(layout: VAELayout) -> Shapes:
    """Return the tensors of a VAE, without ``first_stage_model.``."""
    first, last, latent = layout.channels[0], layout.channels[-1], layout.latent_channels
    shapes = conv("encoder.conv_in", first, 3) | conv("decoder.conv_in", last, latent)
    for block in layout.blocks():
        if block.kind == "resnet":
            shapes |= _vae_resnet(block.canonical, block.in_channels, block.out_channels)
        else:
            shapes |= conv(block.canonical, block.out_channels, block.in_channels)
    for half, width, out in (("encoder", last, 2 * latent), ("decoder", first, 3)):
        shapes |= norm(f"{half}.mid.attn_1.norm", last)
        for part in ("q", "k", "v", "proj_out"):
            shapes |= conv(f"{half}.mid.attn_1.{part}", last, last, 1)
        shapes |= norm(f"{half}.norm_out", width) | conv(f"{half}.conv_out", out, width)
    if layout.quant_conv:
        shapes |= conv("quant_conv", 2 * latent, 2 * latent, 1)
        shapes |= conv("post_quant_conv", latent, latent, 1)
    return shapes


def _vae_resnet(name: str, inner: int, out: int) -> Shapes:
    shapes = norm(f"{name}.norm1", inner) | conv(f"{name}.conv1", out, inner)
    shapes |= norm(f"{name}.norm2", out) | conv(f"{name}.conv2", out, out)
    return shapes if inner == out else shapes | conv(f"{name}.nin_shortcut", out, inner, 1)


def clip_shapes(layout: ClipLayout) -> Shapes:
    """Return the tensors of a CLIP text encoder."""
    hidden = layout.hidden
    embeddings = "text_model.embeddings"
    shapes: Shapes = {
        f"{embeddings}.token_embedding.weight": (layout.vocabulary, hidden),
        f"{embeddings}.position_embedding.weight": (layout.positions, hidden),
    }
    for index in range(layout.layers):
        layer = f"text_model.encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{part}", hidden, hidden)
        shapes |= norm(f"{layer}.layer_norm1", hidden) | norm(f"{layer}.layer_norm2", hidden)
        shapes |= linear(f"{layer}.mlp.fc1", 4 * hidden, hidden)
        shapes |= linear(f"{layer}.mlp.fc2", hidden, 4 * hidden)
    shapes |= norm("text_model.final_layer_norm", hidden)
    if layout.projection:
        shapes |= linear("text_projection", hidden, hidden, bias=False)
    return shapes


def t5_shapes(layout: T5Layout) -> Shapes:
    """Return the tensors of a T5 encoder."""
    hidden, inner = layout.hidden, layout.heads * layout.head_dim
    shapes: Shapes = {"shared.weight": (layout.vocabulary, hidden)}
    for index in range(layout.layers):
        block = f"encoder.block.{index}.layer"
        attention, mlp = f"{block}.0.SelfAttention", f"{block}.1.DenseReluDense"
        for part in ("q", "k", "v"):
            shapes |= linear(f"{attention}.{part}", inner, hidden, bias=False)
        shapes |= linear(f"{attention}.o", hidden, inner, bias=False)
        if index == 0:
            shapes[f"{attention}.relative_attention_bias.weight"] = (32, layout.heads)
        shapes |= linear(f"{mlp}.wi_0", layout.mlp, hidden, bias=False)
        shapes |= linear(f"{mlp}.wi_1", layout.mlp, hidden, bias=False)
        shapes |= linear(f"{mlp}.wo", hidden, layout.mlp, bias=False)
        shapes[f"{block}.0.layer_norm.weight"] = (hidden,)
        shapes[f"{block}.1.layer_norm.weight"] = (hidden,)
    return shapes | {"encoder.final_layer_norm.weight": (hidden,)}
