"""What the notes in the example workflows say."""

QUICKSTART_NOTE = """\
# Your first LoRA, in a minute or two

Press **Run**. Nothing is downloaded: *Tiny Model* makes a small SDXL on the spot.

1. **Tiny Model** is a real MODEL, CLIP and VAE, thousands of times smaller than SDXL. It has \
never seen a picture, so its own are noise.
2. **Load Image Set** reads pictures and captions; here the example set, animal faces.
3. **Training Preset** chooses steps, learning rate, rank and the rest for their number. `-1` and \
`auto` are left to it; what you set is kept. Here `steps`, `lr`, `batch_size` and `resolution` are \
set, as the tiny model wants other values than a large one.
4. **Optimizer** is AutoTrustGO. **Train LoRA** shows step, loss and time left, and draws the \
signals as it goes. **Cancel** saves what was trained; switch `resume` on to go on from there.
5. **Training Signals** draws the loss, and how far the optimizer trusted its gradients.
6. The same prompt and noise, before and after.

The LoRA is in `output/loras/quickstart.safetensors`, everything about the run in \
`output/trustopt/quickstart`.

## For a real model

Open *sdxl_character* or *flux_character* from the templates, put your pictures into a folder \
below `input`, press **R**, and choose it.
"""

_CHARACTER_NOTE = """\
# A {family} LoRA of one character

1. {model}
2. Put 15 to 30 pictures into a folder below ComfyUI's `input`, for example \
`input/my_character`, press **R** and choose it in **Load Image Set**. A caption goes into a text \
file of the same name: `01.png`, `01.txt`. Make up a rare `trigger_word`; it is added to each \
caption that lacks it. In captions, name what should stay changeable (pose, clothes, background) \
and leave out what the trigger word should mean.
3. **Training Preset** reads the number of pictures and the model and fills in the plan. Leave \
`-1` and `auto` to it, or set what you know better.
4. **Optimizer** adapts the plan: AutoTrustGO wants no schedule and no warm-up. \
Choose `adamw` to compare.
5. Press **Run**. **Train LoRA** shows step, loss, time left and memory. **Cancel** saves what \
was trained; `resume` goes on from there.
6. The last row samples the same prompt and noise before and after.

The LoRA is in `output/loras`, for any LoRA loader; the run is in `output/trustopt`.

{memory}

## If it looks wrong

Frozen expressions, repeated clothes or backgrounds, prompts that change nothing: it has learned \
too long. Lower `lr` or `steps`, or add more varied pictures. The trigger word does nothing: train \
longer, or raise `lr`.
"""

SDXL_NOTE = _CHARACTER_NOTE.format(
    family="SDXL",
    model="Choose an SDXL checkpoint in **Load Checkpoint**.",
    memory="If memory runs short, lower `resolution` to 768 and `rank` to 8, and keep "
    "`batch_size` at 1.",
)

FLUX_NOTE = _CHARACTER_NOTE.format(
    family="FLUX",
    model="Choose FLUX.1 dev in **Load Diffusion Model**, T5 and CLIP-L in **DualCLIPLoader**, "
    "and `ae` in **Load VAE**. The model in fp8 is enough to train on and takes half the memory.",
    memory="If memory runs short, lower `resolution` to 512 and keep `batch_size` at 1.",
)
