"""A job on the tiny model that takes a second or two."""

import json

import pytest
from PIL import Image

JOB = """
[model]
path = "tiny"
family = "flux"
device = "cpu"

[images]
folder = "pictures"
trigger_word = "zork"

[plan]
purpose = "style"
steps = 4
rank = 2
targets = "attention"
resolution = 64
save_every = 0

[optimizer]
name = "emonavi"

[samples]
prompts = ["[trigger], a red square"]
steps = 2
"""


@pytest.fixture
def job_file(tmp_path):
    """Return the path of a job file beside a folder of three pictures."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (64, 64), colour).save(pictures / f"{name}.png")
        (pictures / f"{name}.txt").write_text(f"a {name} square", encoding="utf-8")
    path = tmp_path / "squares.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


@pytest.fixture
def package(tmp_path):
    """Ten coloured squares, the last without picture, laid out as the npm package is."""
    return squares(tmp_path / "package", "twitter", 10)


def squares(folder, vendor, things, faces=0):
    """Write an npm package of coloured squares: things, the last without picture, and faces."""
    pictures = folder / "img" / vendor / "64"
    pictures.mkdir(parents=True)
    rows = []
    for index in range(things + faces):
        image = f"{index}.png"
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        side = 24 if vendor == "twitter" else 20
        picture.paste(
            (25 * index % 256, 80, 200, 255), (32 - side, 32 - side, 32 + side, 32 + side)
        )
        picture.save(pictures / image)
        kind = ("SQUARE", "Objects", "tool")
        if index >= things:
            kind = ("FACE", "Smileys & Emotion", "face-smiling")
        rows.append(
            {"name": f"{kind[0]} {index}", "category": kind[1], "subcategory": kind[2]}
            | {"unified": f"1F{index:03}-FE0F", "image": image}
            | {f"has_img_{vendor}": index != things - 1}
        )
    (folder / "emoji.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def both_packages(tmp_path):
    """Twitter's and Google's package of eleven things and twelve faces."""
    return [squares(tmp_path / vendor, vendor, 11, 12) for vendor in ("twitter", "google")]
