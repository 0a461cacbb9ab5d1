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
    """Ten coloured squares, laid out as the npm package is."""
    folder = tmp_path / "package"
    (folder / "img" / "twitter" / "64").mkdir(parents=True)
    rows = []
    for index in range(10):
        image = f"{index}.png"
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        picture.paste((25 * index, 80, 200, 255), (16, 16, 48, 48))
        picture.save(folder / "img" / "twitter" / "64" / image)
        rows.append(
            {"name": f"SQUARE {index}", "image": image, "category": "Objects"}
            | {"has_img_twitter": index != 9}
        )
    (folder / "emoji.json").write_text(json.dumps(rows))
    return folder
