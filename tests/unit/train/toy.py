"""A host of forty weights and pictures of two colours: the engine's tests in milliseconds."""

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trustopt.config import AdapterConfig, DataConfig, JobConfig, OptimizerConfig
from trustopt.data import image_set_from_arrays
from trustopt.host import (
    Conditioning,
    HostMemory,
    LatentDistribution,
    LayerShape,
    PreparedForward,
)
from trustopt.train.folders import Folders
from trustopt.train.loop import Run
from trustopt.train.run import Job, build_run, check, encode

UP, DOWN = "double_blocks.0.img_mlp.0", "double_blocks.0.img_mlp.2"


class ToyNetwork(nn.Module):
    """``(B, 4, h, w)``, context ``(B, 6)``, sigma -> ``(B, 4, h, w)``, pixel by pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.utils.skip_init(nn.Linear, 4, 6)
        self.down = nn.utils.skip_init(nn.Linear, 6, 4)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            parameter.requires_grad_(False).copy_(
                0.5 * torch.randn(parameter.shape, generator=generator)
            )

    def forward(self, x, sigma, context):
        hidden = self.up(x.movedim(1, -1)) + context[:, None, None] + sigma.view(-1, 1, 1, 1)
        return self.down(torch.tanh(hidden)).movedim(-1, 1)


class ToyHost:
    """The Host protocol over ``ToyNetwork``, called a FLUX so that its layers have preset names."""

    family, model_name, prediction = "flux", "toy", "flow"
    sigmas, flow_shift = None, None
    latent_channels, pixels_per_latent, pixel_multiple = 4, 8, 16
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.network = ToyNetwork()
        self.calls: list[torch.Size] = []
        self.encoded: list[str] = []
        self.images_encoded = 0
        self.memory_told = HostMemory(weights=58 * 4)
        self.sessions: list[tuple[bool, int]] = []
        self.break_at: int | None = None
        self.error: BaseException | None = None
        self.overflow: set[int] = set()

    def identity(self):
        return {"name": "toy", "vae": "toy", "text_encoders": "toy"}

    def layers(self):
        return {
            UP: LayerShape(kind="linear", in_features=4, out_features=6),
            DOWN: LayerShape(kind="linear", in_features=6, out_features=4),
        }

    def encode_images(self, pixels):
        self.images_encoded += len(pixels)
        small = nn.functional.avg_pool2d(pixels, 8)
        mean = torch.cat([small, small.mean(1, keepdim=True)], 1) - 0.5
        return LatentDistribution(mean=mean, std=torch.full_like(mean, 0.05))

    def encode_prompts(self, captions):
        self.encoded += captions
        return [
            {"context": torch.full((2, 6), float(len(c) % 5) / 5), "pooled": torch.zeros(1)}
            for c in captions
        ]

    def memory(self):
        return self.memory_told

    @contextlib.contextmanager
    def session(self, adapters, *, checkpointing, reserve=0):
        self.sessions.append((checkpointing, reserve))
        adapters[UP].base_layer, adapters[DOWN].base_layer = self.network.up, self.network.down
        kept = self.network.up, self.network.down
        self.network.up, self.network.down = adapters[UP], adapters[DOWN]
        try:
            yield
        finally:
            self.network.up, self.network.down = kept

    def denoise(self, noised, sigma, conditioning):
        return self.prepare(noised, sigma, conditioning)()

    def prepare(self, noised, sigma, conditioning):
        context = torch.stack([p["context"].mean(0) for p in conditioning.prompts])
        inputs = {"noised": noised, "sigma": sigma, "context": context}
        return PreparedForward(inputs=inputs, run=self.run)

    def run(self, inputs):
        call = len(self.calls)
        self.calls.append(inputs["noised"].shape)
        if call == self.break_at:
            raise self.error
        output = self.network(inputs["noised"], inputs["sigma"], inputs["context"])
        return output * float("inf") if call in self.overflow else output

    def weights_in_place(self):
        return None


class HalfToyHost(ToyHost):
    """The same, computing in fp16."""

    dtype = torch.float16

    def __init__(self) -> None:
        super().__init__()
        self.network.half()

    def prepare(self, noised, sigma, conditioning):
        prompts = [{"context": p["context"].half()} for p in conditioning.prompts]
        half = Conditioning(prompts=prompts, geometry=conditioning.geometry)
        return super().prepare(noised.half(), sigma.half(), half)


def images(count: int = 5):
    """Two-coloured pictures, each different."""
    arrays = []
    for i in range(count):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, : 4 + 4 * i] = (40 * i, 200, 255 - 40 * i)
        arrays.append(pixels)
    return image_set_from_arrays(arrays, [f"picture {'x' * i}" for i in range(count)], name="toy")


def job(folder: Path, *, host: ToyHost | None = None, num_images: int = 5, **settings) -> Job:
    """A job on the toy host under ``folder``; settings are JobConfig's."""
    resume, hooks = settings.pop("resume", False), settings.pop("hooks", None)
    defaults = {
        "name": "toy",
        "steps": 12,
        "lr": 1e-2,
        "save_every": 4,
        "data": DataConfig(resolution=32),
        "adapter": AdapterConfig(rank=2, alpha=2.0),
        "optimizer": OptimizerConfig(name="adamw"),
    }
    made = Job(
        config=JobConfig(**{**defaults, **settings}),
        host=host or ToyHost(),
        images=images(num_images),
        folders=Folders(loras=folder / "loras", runs=folder / "runs"),
        resume=resume,
    )
    if hooks is not None:
        made.hooks = hooks
    return made


def trained_run(folder: Path, host: ToyHost, **settings) -> Run:
    """A run at step 0 whose adapters change something already."""
    made = job(folder, host=host, **settings)
    adapters = check(made)
    run = build_run(made, encode(made, adapters), adapters)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return run
