"""Adapters and their files.

Reading order: ``targets`` (which layers), ``build`` (PEFT layers without the model),
``adapter_set`` (what the trainer holds), ``keys`` (file names), ``files`` (the .safetensors file).
"""
