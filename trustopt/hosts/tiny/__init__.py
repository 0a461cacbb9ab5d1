"""The embedded demo models: SDXL's and FLUX's architecture in a few million parameters.

They need no download, encode and train in seconds on a CPU, and are the same in ComfyUI and in
diffusers. ``specs`` says their sizes, ``weights`` makes them, ``tokenizer`` reads captions.
"""
