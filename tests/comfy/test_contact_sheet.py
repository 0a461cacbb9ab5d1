"""The Contact Sheet node, in graphs that ComfyUI itself runs."""

import pytest
import torch
from PIL import Image
from trustopt_test_prompts import node


@pytest.fixture
def cats(comfyui, tmp_path) -> str:
    """Three wide pictures below ComfyUI's input folder."""
    folder = tmp_path / "input" / "cats"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (96, 40), (40 * index, 90, 200)).save(folder / f"p{index}.png")
        (folder / f"p{index}.txt").write_text(f"cat number {index}")
    return "cats"


def test_it_shows_the_buckets_of_plan_and_objective(comfyui, cats) -> None:
    prompt = {
        "1": node("LoadImageSet", folder=cats),
        "2": node("Preset", image_set=["1", 0], family="flux", resolution=64),
        "3": node("Objective", loss="mse", extra_resolutions="48"),
        "4": node("ContactSheet", image_set=["1", 0]),
        "5": node("ContactSheet", image_set=["1", 0], plan=["2", 0]),
        "6": node("ContactSheet", image_set=["1", 0], plan=["2", 0], objective=["3", 0]),
        "7": node("ContactSheet", image_set=["1", 0], thumbnail=64),
    }
    assert comfyui.run(prompt) == "success"
    plain, planned, several, small = (comfyui.outputs(key)[0] for key in "4567")
    assert torch.equal(plain, comfyui.outputs("1")[2])
    assert plain.shape[2] == planned.shape[2] == several.shape[2] > small.shape[2]
    row, column = 12 + 320 - 5, 12 + 2  # in the first picture: low, and at its left
    assert planned[0, row, column].max() < 0.5 * plain[0, row, column].max()  # cropped away
    assert torch.equal(planned[0, : 12 + 320], several[0, : 12 + 320])
    assert planned.shape != several.shape or not torch.equal(planned, several)  # two buckets named
    shown = {data["node"] for data in comfyui.server.events("executed")}
    assert shown == {"1", "4", "5", "6", "7"}


def test_a_page_that_is_not_there_is_refused(comfyui, cats) -> None:
    prompt = {
        "1": node("LoadImageSet", folder=cats),
        "2": node("ContactSheet", image_set=["1", 0], page=2),
    }
    assert comfyui.run(prompt) == "error"
    assert "page must be from 1 to 1 for cats, got 2" in comfyui.error()
