"""Pictures and captions become batches; read the modules in the order a picture passes them.

``folder`` (or ``samples`` for arrays) finds pictures, ``captions``, ``metadata`` and ``masks``
what belongs to them; ``buckets`` decides size and crop, ``images`` cuts the pixels, ``latents``
and ``prompts`` encode and cache, ``order`` decides who comes when, ``batches`` puts latents and
prompts together. ``dataset.prepare`` calls all of them once before training; ``contact_sheet``
(with ``lettering``) shows what they made of the folder, ``caption_files`` keeps edited captions.
"""

from .batches import Batch, BatchStream
from .buckets import BucketPlan, Placement
from .contact_sheet import contact_sheet
from .dataset import TrainingSet, check_image_set, plan_image_set, prepare
from .folder import folder_stamp, scan_folder
from .samples import FileNote, ImageSet, Sample, image_set_from_arrays
from .share import fill_cache

__all__ = [
    "Batch",
    "BatchStream",
    "BucketPlan",
    "FileNote",
    "ImageSet",
    "Placement",
    "Sample",
    "TrainingSet",
    "check_image_set",
    "contact_sheet",
    "fill_cache",
    "folder_stamp",
    "image_set_from_arrays",
    "plan_image_set",
    "prepare",
    "scan_folder",
]
