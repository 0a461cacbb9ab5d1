"""The emoji-style benchmark: one small job, trained in many ways, judged by held-out truth."""
