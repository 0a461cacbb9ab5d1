"""What training really took of the device's memory, to hold against the plan."""

from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMeter:
    """Measures the most a device's memory grows while steps run; what happens between is left out.

    CUDA counts torch's own allocations. On a CPU it is the process's resident memory, where the
    system tells it (Linux); what the C library frees and keeps makes that the coarser measure.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.grown: int | None = None
        """The most bytes above the start so far; None where nobody can tell."""
        self._start: int | None = None
        self._paused_at: int | None = None

    def resume(self) -> None:
        """Go on measuring; the first call marks the start."""
        now = self._restart()
        if now is None:
            return
        if self._start is None:
            self._start = now
        elif self._paused_at is not None:
            self._start += now - self._paused_at  # a picture sampled in between left this behind
            self._paused_at = None

    def pause(self) -> None:
        """Take the peak since ``resume``."""
        peak, now = self._read()
        if peak is None or now is None or self._start is None:
            return
        self.grown = max(self.grown or 0, peak - self._start)
        self._paused_at = now

    def _restart(self) -> int | None:
        """Forget the peak so far and return what is held now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu":
            try:
                _RESET.write_text("5")
            except OSError:
                return None
        return self._read()[1]

    def _read(self) -> tuple[int | None, int | None]:
        """Return the peak and what is held now, in bytes."""
        if self.device.type == "cuda":
            return (
                torch.cuda.max_memory_allocated(self.device),
                torch.cuda.memory_allocated(self.device),
            )
        if self.device.type != "cpu" or not _STATUS.exists():
            return None, None
        lines = _STATUS.read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if line.startswith(("VmHWM", "VmRSS")))
        peak, now = (int(found[name].split()[0]) * 1024 for name in ("VmHWM", "VmRSS"))
        return peak, now
