"""A first hour with the pack, as one story: from the Templates dialog to a LoRA, and on from it."""

import json

from PIL import Image
from trustopt_test_panels import COLOURED, name_of

IMAGES, PRESET, TRAINER = "Load Image Set", "Training Preset", "Train LoRA (TrustOpt)"
PICTURES = (
    f"[...panelOf('{TRAINER}').querySelectorAll('.trustopt-samples img')]"
    ".filter((i) => i.naturalWidth).length"
)


def write_foxes(folder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(6):
        Image.new("RGB", (64, 64), (200, 20 * index, 30)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"fox number {index}")


def open_template(live) -> None:
    page = live.canvas.page
    page.get_by_text("Templates", exact=True).first.click()
    page.get_by_text("trustopt", exact=True).click()
    page.get_by_text("quickstart_tiny", exact=True).click()
    live.canvas.wait(f"nodeOf('{TRAINER}')")


def test_from_the_templates_to_a_lora_and_on(live, server, pictures, request) -> None:
    name, canvas = name_of("journey", request), live.canvas
    write_foxes(server.folder / "input" / "foxes")
    open_template(live)

    canvas.choose(PRESET, "steps", 100_000)
    canvas.choose(IMAGES, "folder", "foxes")
    assert "applied for 6 images" in canvas.toast("Preset A (small)")
    assert canvas.widgets(IMAGES)["trigger_word"] == "foxes"
    filled = canvas.widgets(PRESET)
    assert (filled["steps"], filled["resolution"]) == (100_000, 64)  # the user's, the template's
    assert filled["rank"] > 0  # computed

    canvas.choose(TRAINER, "name", name)
    canvas.page.get_by_role("button", name="Run", exact=True).first.click()
    live.wait_for_step(TRAINER, 4)
    live.wait(f"(() => {{ {COLOURED.replace('TITLE', json.dumps(TRAINER))} }})() > 200")
    live.wait(f"{PICTURES} === 2")  # both prompts, before the first step
    canvas.page.screenshot(path=pictures / f"{name}.png")

    live.press(TRAINER, "Stop and keep")
    assert f"{name}.safetensors: step " in canvas.toast("Training stopped, LoRA kept")
    assert (server.folder / "output" / "loras" / f"{name}.safetensors").is_file()
    live.wait(f"statusOf('{TRAINER}').startsWith('Training stopped')")
    step = live.read(f"return stepOf('{TRAINER}')")

    canvas.choose(PRESET, "steps", step + 5)
    canvas.choose(TRAINER, "resume", True)
    canvas.page.get_by_role("button", name="Run", exact=True).first.click()
    live.wait(f"statusOf('{TRAINER}').startsWith('Training finished')")
    assert live.status(TRAINER) == (
        f"Training finished · step {step + 5} / {step + 5} · {name}.safetensors"
    )
    live.wait_for_first_step(TRAINER)  # one run, without a gap
    canvas.page.screenshot(path=pictures / f"{name} resumed.png")
