"""Graphs that train with sample pictures, and what tests read of those."""

import importlib
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from trustopt_test_prompts import node, training

SETTINGS = {"steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "guidance": 3.0}
PROMPTS = "a fox [trigger]\na (red:1.3) panda"
FILLED = ["a fox emoji", "a (red:1.3) panda"]


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    import nodes

    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def sampling(family: str = "sdxl", *, samples: dict | None = None, **train) -> dict:
    """Return a graph that trains with sample pictures: node 6 asks for them."""
    prompt = training(family, samples=["6", 0], **train)
    given = {"prompts": PROMPTS, "every": 0, "seed": 5, "negative": "dark", **SETTINGS}
    prompt["6"] = node("Samples", **{**given, **(samples or {})})
    return prompt


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def weights(lora: Path) -> bytes:
    """Return a LoRA file's bytes without its header, which tells how often was sampled."""
    content = lora.read_bytes()
    return content[8 + struct.unpack("<Q", content[:8])[0] :]


def steps_in(folder: Path) -> list[int]:
    return sorted({int(path.name[5:11]) for path in folder.glob("step_*.png")})


def at_event(comfyui, is_meant, action) -> None:
    """Do something once, when the browser hears of what is meant."""

    def on_send(event, data) -> None:
        if event == "trustopt.progress" and is_meant(data):
            comfyui.server.on_send = None
            action(data["run_id"])

    comfyui.server.on_send = on_send
