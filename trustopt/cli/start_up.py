"""What is waited for before a job's first line: the imports, in a new interpreter."""

import importlib
import multiprocessing
import time

STAGES = {
    "torch": ("torch",),
    "the command line": ("trustopt.cli.main",),
    "a job's engine": ("trustopt.cli.train_job", "trustopt.train.run"),
    "the networks' library": ("diffusers", "transformers"),
}
"""What is imported, one after the other: each stage counts what those before it did not bring."""


def import_seconds() -> dict[str, float]:
    """Import the stages in a new interpreter; return the processor seconds of each."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed_imports)


def _timed_imports() -> dict[str, float]:
    seconds = {"the interpreter itself": time.process_time()}
    for stage, modules in STAGES.items():
        started = time.process_time()
        for module in modules:
            importlib.import_module(module)
        seconds[stage] = time.process_time() - started
    return seconds
