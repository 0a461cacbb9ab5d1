"""The node that shows what is in a LoRA: of the graph, of a file, of a bad file."""

import json
import pickle

import folder_paths
import pytest
import torch
from safetensors.torch import load_file, save_file
from trustopt_test_prompts import node

import nodes

Q = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
MIDDLE = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"


def lora(*layers: str, **alphas: float) -> dict[str, torch.Tensor]:
    tensors = {}
    for layer in layers:
        tensors[f"{layer}.lora_down.weight"] = torch.ones(2, 8)
        tensors[f"{layer}.lora_up.weight"] = torch.ones(8, 2)
        tensors[f"{layer}.alpha"] = torch.tensor(alphas.get("alpha", 2.0))
    return tensors


@pytest.fixture
def loras(comfyui, tmp_path):
    folder = tmp_path / "output" / "loras"
    folder.mkdir(parents=True)
    return folder


def inspect(comfyui, **inputs) -> str:
    folder_paths.filename_list_cache.pop("loras", None)  # as after pressing R
    return comfyui.run({"1": node("InspectLora", **inputs)})


def test_the_loras_of_the_folders_are_offered(comfyui, loras) -> None:
    save_file(lora(Q), loras / "a.safetensors")
    folder_paths.filename_list_cache.pop("loras", None)
    spec = nodes.NODE_CLASS_MAPPINGS["TrustOpt_InspectLora"].INPUT_TYPES()["optional"]["file"]
    assert spec[1]["options"] == ["the connected LoRA", "a.safetensors"]


def test_a_file_is_reported_as_the_command_line_does(comfyui, loras) -> None:
    from trustopt_pack.trustopt.adapters import inspect_lora

    tags = {"ss_tag_frequency": json.dumps({"set": {"cat": 3}}), "ss_steps": "7"}
    save_file(lora(Q, MIDDLE), loras / "a.safetensors", tags)
    assert inspect(comfyui, file="a.safetensors", width=640, height=480) == "success"
    image, report = comfyui.outputs("1")
    assert report == inspect_lora(loras / "a.safetensors")
    for part in ("family     sdxl", "algorithm  lora", "rank       2", "middle_block", "cat (3)"):
        assert part in report
    assert tuple(image.shape) == (1, 480, 640, 3)
    assert float(image.std()) > 0.05
    assert comfyui.server.events("executed")[0]["output"]["images"]
    said = next(text for where, text in comfyui.server.texts if where == "1")
    assert said.startswith("a.safetensors")
    assert "attn1" not in said  # the whole report is an output


def test_a_lora_of_the_graph_has_the_same_blocks(comfyui, loras, monkeypatch) -> None:
    save_file(lora(Q, MIDDLE), loras / "a.safetensors")
    assert inspect(comfyui, file="a.safetensors") == "success"
    from_file, report = comfyui.outputs("1")
    inspector = nodes.NODE_CLASS_MAPPINGS["TrustOpt_InspectLora"]
    prepared = inspector.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    output = prepared.EXECUTE_NORMALIZED(lora=load_file(loras / "a.safetensors"))
    image, other = output.result
    assert other.splitlines()[1:] == report.splitlines()[1:]
    assert other.startswith("the connected LoRA  (0.0 MB)")
    plot = slice(120, None)  # below the heading, which names the LoRA
    assert torch.equal(image[:, plot], from_file[:, plot])


def test_a_changed_file_is_inspected_again(comfyui, loras) -> None:
    save_file(lora(Q), loras / "a.safetensors")
    assert inspect(comfyui, file="a.safetensors") == "success"
    assert inspect(comfyui, file="a.safetensors") == "success"
    assert comfyui.executed() == set()
    save_file(lora(Q, MIDDLE), loras / "a.safetensors")
    assert inspect(comfyui, file="a.safetensors") == "success"
    assert "1" in comfyui.executed()
    assert "layers (2)" in comfyui.outputs("1")[1]


def test_nothing_to_inspect_says_what_to_do(comfyui) -> None:
    assert inspect(comfyui) == "error"
    assert "connect lora, or choose a file" in comfyui.error().splitlines()[0]


SD1 = "lora_unet_output_blocks_11_1_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.safetensors", lora(Q), "cut.safetensors is truncated or no safetensors file"),
        ("old.pt", None, "old.pt is refused: only .safetensors files are read, pickled files can"),
        ("zero.safetensors", lora(Q, alpha=0.0), "has alpha 0.0 at input_blocks.4.1"),
        (
            "none.safetensors",
            {"some.key": torch.ones(2)},
            "1 of 1 keys in no known style: some.key",
        ),
        ("sd1.safetensors", lora(SD1), "is a LoRA of Stable Diffusion 1.x or 2.x"),
        (
            "both.safetensors",
            lora(Q, "lora_unet_double_blocks_0_img_attn_proj"),
            "both.safetensors mixes model families",
        ),
    ],
)
def test_bad_files_say_what_is_wrong(comfyui, loras, name, content, said) -> None:
    if content is None:
        (loras / name).write_bytes(pickle.dumps({"a": 1}))
    else:
        save_file(content, loras / name)
    if name.startswith("cut"):
        (loras / name).write_bytes((loras / name).read_bytes()[:-20])
    assert inspect(comfyui, file=name) == "error"
    assert said in comfyui.error().splitlines()[0]


def test_keys_of_other_tools_are_listed_not_refused(comfyui, loras) -> None:
    save_file(lora(Q) | {"somewhere.else": torch.ones(1)}, loras / "a.safetensors")
    assert inspect(comfyui, file="a.safetensors") == "success"
    assert "unknown keys (1):\n  somewhere.else" in comfyui.outputs("1")[1]


def test_only_listed_files_are_read(comfyui, loras, tmp_path) -> None:
    save_file(lora(Q), tmp_path / "secret.safetensors")
    assert "file" in comfyui.check({"1": node("InspectLora", file="../../secret.safetensors")})
