"""Where the checks run, how long they may, and what was wrong."""

import time
from dataclasses import dataclass, field
from typing import Any

from ai3.platforms.platform import Platform


@dataclass
class Place:
    """The device, and until when a check may go on; `processes` may share it."""

    platform: Platform
    device: str
    until: float
    processes: int = 1
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    @property
    def is_time_up(self) -> bool:
        return self.left <= 0

    def expect(self, holds: bool, what: str) -> None:
        self.tried += 1
        if not holds:
            self.faults.append(what)

    def close(self, actual: Any, expected: Any, what: str, tolerance: float = 2e-3) -> None:
        apart = (actual.detach().double().cpu() - expected.detach().double().cpu()).abs().max()
        largest = float(expected.detach().abs().max())
        self.expect(float(apart) <= tolerance * largest, f"{what}: {float(apart):.3g} apart")
