"""`./run gputest`: is everything right on this GPU? Writes gputest.json."""

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import ai3
from ai3.platforms import platform_of
from bench.gpu.checks import CHECKS, Place

OUT = Path(os.environ.get("OUT", "out"))

KERNELS = """
from bench.gpu.checks import Place, algorithms
from ai3.platforms import platform_of
import time
platform = platform_of("cuda")
names = ("direct", "smm", "winograd f4")
own = {op: {n: a for n, a in platform.algorithms(op).items() if n in names}
       for op in platform.operations()}
platform.algorithms = lambda op: own.get(op, {})
place = Place(platform, "cuda", time.monotonic() + 25)
algorithms(place)
print(place.tried, place.faults[:3])
"""


def sanitized() -> dict[str, Any]:
    """Our kernels under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"skipped": "there is no compute-sanitizer"}
    command = [tool, "--error-exitcode", "9", "--print-limit", "3", sys.executable, "-c", KERNELS]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return {"skipped": "it took more than a minute"}
    faults = [] if ran.returncode == 0 else [(ran.stdout + ran.stderr)[-2000:]]
    return {"tried": 1, "faults": faults, "said": ran.stdout[-300:]}


def main() -> int:
    platform = platform_of("cuda")
    assert platform is not None
    if why := platform.missing():
        print(f"gputest needs a GPU: {why}", file=sys.stderr)
        return 2
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "platforms": [row._asdict() for row in ai3.platforms()],
    }
    for name, (check, seconds) in CHECKS.items():
        start = time.monotonic()
        place = Place(platform, "cuda", start + seconds)
        try:
            check(place)
        except Exception:
            place.faults.append(traceback.format_exc()[-2000:])
        took = time.monotonic() - start
        found[name] = {"tried": place.tried, "faults": place.faults, "seconds": round(took, 1)}
        print(f"{name}: {place.tried} tried, {len(place.faults)} wrong, {took:.0f} s", flush=True)
        for fault in place.faults[:5]:
            print("  " + fault.replace("\n", "\n  "), flush=True)
    found["compute-sanitizer"] = sanitized()
    print("compute-sanitizer:", found["compute-sanitizer"])
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "gputest.json").write_text(json.dumps(found, indent=1))
    return int(
        any(
            part["faults"]
            for part in found.values()
            if isinstance(part, dict) and part.get("faults")
        )
    )


if __name__ == "__main__":
    sys.exit(main())
