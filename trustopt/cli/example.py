"""A job file to start from: ``trustopt train --example``."""

EXAMPLE = """\
# A LoRA of one character on SDXL. Paths are relative to this file.
# Train:     trustopt train job.toml
# Try first: trustopt train job.toml --dry-run

[model]
path = "models/sd_xl_base_1.0.safetensors"   # or a diffusers folder, or "tiny"
family = "auto"                  # sdxl or flux; auto: read from the file
dtype = "auto"                   # bf16, fp16 or fp32; auto: what the device does best
device = "auto"                  # cuda, mps or cpu

[images]
folder = "images"                # pictures, each with a caption in a .txt of the same name
trigger_word = "ohwx woman"      # put in front of captions that lack it

[plan]
purpose = "character"            # or style, concept, photoreal
# What you leave out follows from the number of pictures, the family and the purpose.
# trustopt plan images  shows every value; each may stand here:
# steps = 2000
# rank = 32

[optimizer]
name = "autotrustgo"             # or emonavi, emofact, emolynx, adamw, prodigy, ...
# lr = 1e-4                      # left out: the plan's, as the optimizer takes it

[optimizer.options]
# trust_level = 0.45

[samples]
prompts = ["ohwx woman reading in a cafe"]   # pictures before, during and after training

[output]
name = "my_character"
loras = "loras"                  # <loras>/my_character.safetensors
runs = "runs"                    # <runs>/my_character/: signals, samples, states to resume from
cache = "cache"                  # encoded pictures and captions
seed = 0
"""
