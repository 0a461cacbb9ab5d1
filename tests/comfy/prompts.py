"""Graphs as ComfyUI's API takes them."""

EXAMPLE = "(example) emoji animals"


def node(name: str, /, **inputs) -> dict:
    """Return one of the pack's nodes."""
    return {"class_type": f"TrustOpt_{name}", "inputs": inputs}


def builtin(name: str, /, **inputs) -> dict:
    """Return one of ComfyUI's nodes."""
    return {"class_type": name, "inputs": inputs}


def show(source: list) -> dict:
    """Return a node that ends a graph."""
    return builtin("PreviewAny", source=source)


def training(family: str = "sdxl", *, steps: int = 6, **train) -> dict:
    """Return a graph that trains the tiny model on the example set: node 5 is the trainer."""
    return {
        "1": node("TinyModel", family=family),
        "2": node("LoadImageSet", folder=EXAMPLE, trigger_word="emoji"),
        "3": node(
            "Preset",
            image_set=["2", 0],
            model=["1", 0],
            steps=steps,
            batch_size=2,
            resolution=64,
            rank=4,
            save_every=0,
        ),
        "4": node("Optimizer", optimizer="adamw", **ADAMW),
        "5": node(
            "TrainLora",
            model=["1", 0],
            clip=["1", 1],
            vae=["1", 2],
            image_set=["2", 0],
            plan=["3", 0],
            optimizer=["4", 0],
            **{"name": "tiny", "seed": 1, **train},
        ),
    }


ADAMW = {
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.weight_decay": -1.0,
    "optimizer.eps": 1e-8,
}
