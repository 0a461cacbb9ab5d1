"""What a command returns to the shell."""

FINISHED = 0
UNEXPECTED = 1
"""With a traceback, or with a reason when training failed for good or the disk did."""
BAD_INPUT = 2
"""The first line on stderr says what to do."""
STOPPED = 3
"""Ended early on request (Ctrl-C once, or the optimizer's should_stop); the LoRA is kept."""
INTERRUPTED = 130
"""Ended at once; a state to resume from is kept if training had begun."""
