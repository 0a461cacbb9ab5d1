"""What the notes in the example workflows say."""

QUICKSTART_NOTE = """\
# Your first LoRA, in a minute or two

Press **Run**. Nothing is downloaded: *Tiny Model* holds a small SDXL.

1. **Tiny Model** is a real MODEL, CLIP and VAE, hundreds of times smaller than SDXL. It was \
taught Google's emoji by their names, and draws them roughly.
2. **Load Image Set** reads pictures and captions; here the example set, animal faces as Twitter \
draws them.
3. **Training Preset** chooses steps, learning rate, rank and the rest for their number. `-1` and \
`auto` are left to it; what you set is kept. Here `steps`, `lr`, `batch_size`, `resolution` and \
`targets` are set, as the tiny model wants other values than a large one.
4. **Training Samples** draws two prompts before training, every 100 steps and at the end. \
`[trigger]` stands for the trigger word.
5. **Optimizer** is AutoTrustGO. **Train LoRA** shows step, loss, time left and the samples, and \
draws the signals as it goes. **Stop and keep** ends early; switch `resume` on to go on from there.
6. **Training Signals** draws the loss, and how far the optimizer trusted its gradients.
7. The same prompt and noise, before and after: Google's fox, then Twitter's.

The LoRA is in `output/loras/quickstart.safetensors`, everything about the run in \
`output/trustopt/quickstart`.

## For a real model

Open *sdxl_character* or *flux_character* from the templates, put your pictures into a folder \
below `input`, press **R**, and choose it.
"""

_NOTE = """\
# A {family} LoRA of {subject}

1. {model}
2. {pictures}
3. **Training Preset** reads the number of pictures and the model and fills in the plan. Leave \
`-1` and `auto` to it, or set what you know better.
4. **Training Samples** draws its prompts before training, every 250 steps and at the end, so \
that you see when it has learned enough. `[trigger]` stands for the trigger word.
5. **Optimizer** adapts the plan: AutoTrustGO wants no schedule and no warm-up. \
Choose `adamw` to compare.
6. Press **Run**. **Train LoRA** shows step, loss, time left, memory and the samples. **Stop and \
keep** ends early; `resume` goes on from there.
7. The last row samples the same prompt and noise before and after.

The LoRA is in `output/loras`, for any LoRA loader; the run is in `output/trustopt`, and in the \
sidebar's *Training runs*.

{memory}

## If it looks wrong

{wrong}
"""

_CHARACTER = {
    "subject": "one character",
    "pictures": "Put 15 to 30 pictures into a folder below ComfyUI's `input`, for example "
    "`input/my_character`, press **R** and choose it in **Load Image Set**. A caption goes into a "
    "text file of the same name: `01.png`, `01.txt`; **Edit captions** writes them here. Make up a "
    "rare `trigger_word`; it is added to each caption that lacks it. In captions, name what should "
    "stay changeable (pose, clothes, background) and leave out what the trigger word should mean.",
    "wrong": "Frozen expressions, repeated clothes or backgrounds, prompts that change nothing: it "
    "has learned too long. Lower `lr` or `steps`, or add more varied pictures. The trigger word "
    "does nothing: train longer, or raise `lr`.",
}

_STYLE = {
    "subject": "a style",
    "pictures": "Put 20 to 60 pictures of the style, of as many different things as you can, into "
    "a folder below ComfyUI's `input`, for example `input/my_style`, press **R** and choose it in "
    "**Load Image Set**. A caption goes into a text file of the same name: `01.png`, `01.txt`; "
    "**Edit captions** writes them here. Describe what is in each picture and never how it is "
    "drawn: that is what the `trigger_word` should mean.",
    "wrong": "The same things appear in every picture: the set shows too few subjects, or it has "
    "learned too long. Lower `lr` or `steps`, or add pictures of other things. The style is faint: "
    "train longer, raise `rank`, or raise `lr`.",
}

_SDXL = {
    "family": "SDXL",
    "model": "Choose an SDXL checkpoint in **Load Checkpoint**.",
    "memory": "If memory runs short, open *sdxl_low_vram*.",
}

_FLUX = {
    "family": "FLUX",
    "model": "Choose FLUX.1 dev in **Load Diffusion Model**, T5 and CLIP-L in **DualCLIPLoader**, "
    "and `ae` in **Load VAE**. The model in fp8 is enough to train on and takes half the memory.",
    "memory": "If memory runs short, lower `resolution` to 512 and keep `batch_size` at 1.",
}

_LOW = {
    "memory": "What is set here to save memory: `resolution` 768, `rank` 8, `batch_size` 1, "
    "`checkpointing` on, and the optimizer EmoFact, which keeps a quarter of a byte a parameter "
    "instead of eight. Before step 1 the node says what it will take; weights that do not fit stay "
    "in main memory and are fetched when needed, which is slower. Close what else uses the card."
}

SDXL_NOTE = _NOTE.format(**_SDXL, **_CHARACTER)
SDXL_STYLE_NOTE = _NOTE.format(**_SDXL, **_STYLE)
FLUX_NOTE = _NOTE.format(**_FLUX, **_CHARACTER)
FLUX_STYLE_NOTE = _NOTE.format(**_FLUX, **_STYLE)
LOW_VRAM_NOTE = _NOTE.format(**{**_SDXL, **_CHARACTER, **_LOW})

COMPARE_NOTE = """\
# Two optimizers, one plot

Press **Run**. Nothing is downloaded: *Tiny Model* holds a small SDXL.

1. **Load Image Set** and **Training Preset** feed both trainers: the same pictures, steps and \
seed, so the same noise in the same order.
2. Each **Optimizer** adapts the plan in its own way (schedule, warm-up, learning rate); set its \
`lr` where both should have the same.
3. The two **Train LoRA** nodes run one after the other.
4. **Training Signals** lays both over each other, one panel a series. Set `save_files` to keep \
the plots and their numbers.

A lower training loss alone says little: hold pictures out with `validation_fraction`, repeat with \
other seeds, and look at pictures. The LoRAs are in `output/loras`.
"""

CONTINUE_NOTE = """\
# Going on with a training

Run *quickstart_tiny* first. This is the same graph with two changes: `steps` is 600 instead of \
300, and **Train LoRA** has `resume` on. Press **Run**: it goes on with the newest run named \
`quickstart` after its last saved step, bit for bit as if it had never ended.

- **After Stop, a crash or a power cut**: the same; `save_every` says how many steps are lost at \
most.
- **Other pictures or another model** are refused when resuming, and the difference is named: that \
would be another training.
- **To train a LoRA further as a new run**, with other pictures from **Load Image Set** for \
example, choose its file in `start_from` and leave `resume` off. It may come from another tool.

**Resume** in the sidebar's *Training runs* sets the node up for any run. \
The LoRA is in `output/loras`; the file of the run is replaced by the one trained further.
"""
