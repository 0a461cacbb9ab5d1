"""Layer tables of the two families, written out from their architectures' constants."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from trustopt.adapters import AdapterSet, build_adapters
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape

Table = dict[str, LayerShape]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices run fastest on one thread, above all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def linear(in_features: int, out_features: int) -> LayerShape:
    return LayerShape(kind="linear", in_features=in_features, out_features=out_features)


def conv(in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> LayerShape:
    return LayerShape(
        kind="conv2d",
        in_features=in_channels,
        out_features=out_channels,
        kernel_size=(size, size),
        stride=(stride, stride),
        padding=(size // 2, size // 2),
    )


def residual_block(name: str, inputs: int, outputs: int, embedding: int) -> Iterator:
    yield f"{name}.in_layers.2", conv(inputs, outputs)
    yield f"{name}.emb_layers.1", linear(embedding, outputs)
    yield f"{name}.out_layers.3", conv(outputs, outputs)
    if inputs != outputs:
        yield f"{name}.skip_connection", conv(inputs, outputs, size=1)


def spatial_transformer(name: str, width: int, depth: int, context: int) -> Iterator:
    yield f"{name}.proj_in", linear(width, width)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", context)):
            yield f"{block}.{attention}.to_q", linear(width, width)
            yield f"{block}.{attention}.to_k", linear(source, width)
            yield f"{block}.{attention}.to_v", linear(source, width)
            yield f"{block}.{attention}.to_out.0", linear(width, width)
        yield f"{block}.ff.net.0.proj", linear(width, 8 * width)
        yield f"{block}.ff.net.2", linear(4 * width, width)
    yield f"{name}.proj_out", linear(width, width)


def sdxl_table(channels: int = 320, depths: tuple = (0, 2, 10), context: int = 2048) -> Table:
    """The UNet of SDXL: three levels of two (down) and three (up) blocks."""
    embedding, widths = 4 * channels, [channels, 2 * channels, 4 * channels]
    table: Table = {
        "time_embed.0": linear(channels, embedding),
        "time_embed.2": linear(embedding, embedding),
        "label_emb.0.0": linear(2816, embedding),
        "label_emb.0.2": linear(embedding, embedding),
        "input_blocks.0.0": conv(4, channels),
    }
    skips, current, index = [channels], channels, 1
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for _ in range(2):
            name = f"input_blocks.{index}"
            table |= dict(residual_block(f"{name}.0", current, width, embedding))
            if depth:
                table |= dict(spatial_transformer(f"{name}.1", width, depth, context))
            current, index = width, index + 1
            skips.append(width)
        if level < 2:
            table[f"input_blocks.{index}.0.op"] = conv(width, width, stride=2)
            skips.append(width)
            index += 1
    table |= dict(residual_block("middle_block.0", current, current, embedding))
    table |= dict(spatial_transformer("middle_block.1", current, depths[2], context))
    table |= dict(residual_block("middle_block.2", current, current, embedding))
    for index in range(9):
        width, depth = widths[2 - index // 3], depths[2 - index // 3]
        name = f"output_blocks.{index}"
        table |= dict(residual_block(f"{name}.0", current + skips.pop(), width, embedding))
        if depth:
            table |= dict(spatial_transformer(f"{name}.1", width, depth, context))
        current = width
        if index in (2, 5):
            table[f"{name}.2.conv"] = conv(width, width)
    table["out.2"] = conv(channels, 4)
    return table


def flux_table(hidden: int = 3072, double: int = 19, single: int = 38) -> Table:
    """The transformer of FLUX.1-dev."""
    table: Table = {"img_in": linear(64, hidden), "txt_in": linear(4096, hidden)}
    for name, width in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        table[f"{name}.in_layer"] = linear(width, hidden)
        table[f"{name}.out_layer"] = linear(hidden, hidden)
    for index in range(double):
        for stream in ("img", "txt"):
            block = f"double_blocks.{index}.{stream}"
            table[f"{block}_mod.lin"] = linear(hidden, 6 * hidden)
            table[f"{block}_attn.qkv"] = linear(hidden, 3 * hidden)
            table[f"{block}_attn.proj"] = linear(hidden, hidden)
            table[f"{block}_mlp.0"] = linear(hidden, 4 * hidden)
            table[f"{block}_mlp.2"] = linear(4 * hidden, hidden)
    for index in range(single):
        block = f"single_blocks.{index}"
        table[f"{block}.linear1"] = linear(hidden, 7 * hidden)
        table[f"{block}.linear2"] = linear(5 * hidden, hidden)
        table[f"{block}.modulation.lin"] = linear(hidden, 3 * hidden)
    table["final_layer.linear"] = linear(hidden, 64)
    table["final_layer.adaLN_modulation.1"] = linear(hidden, 2 * hidden)
    return table


def text_encoder_table(prefix: str, depth: int, width: int) -> Table:
    table: Table = {}
    for index in range(depth):
        block = f"{prefix}.text_model.encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            table[f"{block}.self_attn.{name}"] = linear(width, width)
        table[f"{block}.mlp.fc1"] = linear(width, 4 * width)
        table[f"{block}.mlp.fc2"] = linear(4 * width, width)
    return table


@pytest.fixture(scope="session")
def sdxl_layers() -> Table:
    """Full-size SDXL with both text encoders."""
    encoders = text_encoder_table("te1", 12, 768) | text_encoder_table("te2", 32, 1280)
    return sdxl_table() | encoders


@pytest.fixture(scope="session")
def flux_layers() -> Table:
    """Full-size FLUX.1-dev."""
    return flux_table()


@pytest.fixture(scope="session")
def tiny_sdxl_layers() -> Table:
    encoders = text_encoder_table("te1", 1, 64) | text_encoder_table("te2", 1, 64)
    return sdxl_table(channels=32, depths=(0, 1, 2), context=64) | encoders


@pytest.fixture(scope="session")
def tiny_flux_layers() -> Table:
    return flux_table(hidden=64, double=2, single=2)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., Table]:
    """Build a table from ``(name, in, out[, kernel])`` tuples."""

    def make(*rows: tuple) -> Table:
        return {
            row[0]: conv(row[1], row[2], size=row[3]) if len(row) > 3 else linear(row[1], row[2])
            for row in rows
        }

    return make


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def base_weight(shape: LayerShape, seed: int = 1) -> torch.Tensor:
    size = (shape.out_features, shape.in_features)
    if shape.kind == "conv2d":
        size = (*size, *shape.kernel_size)
    return torch.randn(size, generator=generator(seed)) * 0.2


def base_layer(shape: LayerShape, seed: int = 1) -> nn.Module:
    """A layer with bias, as a host would hold it, without touching the global generator."""
    with torch.device("meta"):
        if shape.kind == "linear":
            layer: nn.Module = nn.Linear(shape.in_features, shape.out_features)
        else:
            layer = nn.Conv2d(
                shape.in_features,
                shape.out_features,
                shape.kernel_size,
                stride=shape.stride,
                padding=shape.padding,
            )
    layer.to_empty(device="cpu").requires_grad_(False)
    layer.weight.copy_(base_weight(shape, seed))
    layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator(seed + 1)))
    return layer


def example_input(shape: LayerShape, seed: int = 2) -> torch.Tensor:
    size = (2, 5, shape.in_features)
    if shape.kind == "conv2d":
        size = (2, shape.in_features, 6, 6)
    return torch.randn(size, generator=generator(seed))


@pytest.fixture(scope="session")
def make_base_layer() -> Callable[..., nn.Module]:
    return base_layer


@pytest.fixture(scope="session")
def make_input() -> Callable[..., torch.Tensor]:
    return example_input


@pytest.fixture(scope="session")
def trained() -> Callable[..., AdapterSet]:
    """Build adapters whose every factor has a value, as after training; base layers are inside."""

    def build(
        layers: Table, config: AdapterConfig, *, seed: int = 0, std: float = 0.1
    ) -> AdapterSet:
        adapters = build_adapters(layers, config, generator(seed))
        source = generator(seed + 100)
        with torch.no_grad():
            for parameter in adapters.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=source) * std)
            if adapters.needs_base_weight:  # DoRA measures its base in a forward
                for name, shape in layers.items():
                    adapters.layers[name].base_layer = base_layer(shape)
                    adapters[name](example_input(shape))
        return adapters

    return build
