"""Pictures and captions become batches; read the modules in the order a picture passes them.

``folder`` (or ``samples`` for arrays) finds pictures, ``captions`` and ``metadata`` their texts;
``buckets`` decides size and crop, ``images`` cuts the pixels, ``latents`` and ``prompts`` encode
and cache, ``order`` decides who comes when, ``batches`` puts latents and prompts together, and
``dataset.prepare`` calls all of them once before training.
"""
