"""`./run gputest`: is everything right on this GPU? Writes gputest.json."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ai3
from ai3.platforms import platform_of
from ai3.torch.limit import TimeUp, limited
from bench.gpu.algorithms import take
from bench.gpu.checks import CHECKS
from bench.gpu.place import Place

SECONDS = 200.0
WATCHED = 30.0
"""Seconds of those for compute-sanitizer."""
PROCESSES = 8


def out() -> Path:
    return Path(os.environ.get("OUT", "out"))


def main(arguments: Sequence[str] = (), device: str = "cuda") -> int:
    parser = argparse.ArgumentParser(prog="./run gputest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that it may take")
    seconds = parser.parse_args(arguments).seconds
    platform = platform_of(torch.device(device).type)
    assert platform is not None
    if why := platform.missing():
        print(f"gputest needs a GPU: {why}", file=sys.stderr)
        return 2
    end = time.monotonic() + seconds
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, Any] = {
        "gpu": platform.name_of(torch.device(device)),
        "torch": torch.__version__,
        "platforms": [row._asdict() for row in ai3.platforms()],
        "checks": {},
    }
    shares = {name: share for name, (_, share) in CHECKS.items()}
    scale = seconds / (sum(shares.values()) + WATCHED)
    for name, (check, share) in CHECKS.items():
        until = min(time.monotonic() + share * scale, end - WATCHED * scale)
        place = Place(platform, device, until, PROCESSES)
        note(found, name, done(place, name, check))
    note(found, "compute-sanitizer", sanitized(end - time.monotonic()))
    return int(any(each["faults"] for each in found["checks"].values()))


def done(place: Place, name: str, check: Any) -> dict[str, Any]:
    """What a check came to."""
    start, ended = time.monotonic(), True
    try:
        with limited(name, max(1.0, place.left + 5)):
            check(place)
    except TimeUp:
        ended = False
    except Exception:
        place.faults.append(traceback.format_exc()[-2000:])
    if not place.tried and not place.faults:
        place.faults.append("nothing was tried")
    took = round(time.monotonic() - start, 1)
    return {"tried": place.tried, "faults": place.faults, "seconds": took, "ended": ended}


def sanitized(seconds: float) -> dict[str, Any]:
    """Our kernels under compute-sanitizer, every tensor in memory of its own."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"tried": 0, "faults": [], "skipped": "there is no compute-sanitizer"}
    command = [tool, "--error-exitcode", "9", "--print-limit", "3", sys.executable]
    command += ["-m", "bench.gpu.algorithms", "--own", "--seconds", str(max(1.0, seconds - 20))]
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=max(1.0, seconds), env=environment
        )
    except subprocess.TimeoutExpired:
        return {"tried": 0, "faults": [], "skipped": f"it took more than {seconds:.0f} s"}
    place = Place(None, "", 0.0)  # type: ignore[arg-type]
    told = [line for line in ran.stdout.splitlines() if not line.startswith("=====")]
    take(place, "\n".join(told), ran.stderr)
    if ran.returncode and not place.faults:
        place.faults.append((ran.stdout + ran.stderr)[-2000:])
    return {"tried": place.tried, "faults": place.faults}


def note(found: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    """Show what a check came to, and write down all that is known: the next may be the last."""
    found["checks"][name] = result
    more = "".join(f", {k}: {v}" for k, v in result.items() if k not in ("tried", "faults"))
    print(f"{name}: {result['tried']} tried, {len(result['faults'])} wrong{more}", flush=True)
    for fault in result["faults"][:5]:
        print("  " + fault.replace("\n", "\n  "), flush=True)
    out().mkdir(parents=True, exist_ok=True)
    (out() / "gputest.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
