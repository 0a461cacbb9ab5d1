"""The embedded demo models: SDXL's and FLUX's architecture in a few million parameters.

They need no download, encode and train in seconds on a CPU, and are the same in ComfyUI and in
diffusers. SDXL's is pretrained on the Noto emoji and draws them by name. ``specs`` says their
sizes, ``weights`` reads or makes them, ``tokenizer`` reads captions.
"""
