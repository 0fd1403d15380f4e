"""The type stub of the compiled core: `python -m runners.stub` writes it anew."""

from importlib import import_module
from pathlib import Path

from nanobind.stubgen import StubGen

ROOT = Path(__file__).parent.parent
STUB = ROOT / "src/ai3/_core/__init__.pyi"


def generate() -> str:
    """The stub of `ai3._core`, the same on every machine: any copy of the core has the same API."""
    core = import_module("ai3._core.baseline")
    name, core.__name__ = core.__name__, "ai3._core"
    try:
        generator = StubGen(core)
        generator.put(core)
    finally:
        core.__name__ = name
    text = generator.get().replace("isa: str = 'baseline'", "isa: str\n\nlevels: list[str]")
    return text.replace(f"kernels: str = '{core.kernels}'", "kernels: str")


if __name__ == "__main__":
    STUB.write_text(generate())
