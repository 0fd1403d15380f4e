"""The table of operations, algorithms and platforms in the README and the documentation:
`python -m runners.docs` writes it anew."""

from ai3.platforms import places_of, registered, supported
from runners.stub import ROOT

FILES = [ROOT / "README.md", ROOT / "docs/platforms.md"]
BEGIN = "<!-- algorithms: written by `python -m runners.docs` from the registries -->\n"
END = "<!-- end of algorithms -->"

TITLES = {"cpu": "CPU", "cuda": "CUDA", "xpu": "SYCL", "mps": "Metal/MPS"}
"""Of the columns, in their order."""


def table() -> str:
    """A row for each algorithm of an operation, or for several that are on the same platforms;
    operations that are alike in all share their rows, those of most come last."""
    there = ["cpu", *(platform.name for platform in registered())]
    platforms = sorted(there, key=[*TITLES, *there].index)
    rows = [
        f"| operation | algorithm | {' | '.join(TITLES.get(p, p) for p in platforms)} |",
        f"| --- | --- |{' :---: |' * len(platforms)}",
    ]
    alike: dict[str, tuple[dict[str, list[str]], list[str]]] = {}
    for op, names in supported().items():
        together: dict[str, list[str]] = {}
        for name in names:
            places = places_of(op, name)
            marks = " | ".join("✓" if place in places else "" for place in platforms)
            together.setdefault(marks, []).append(name)
        alike.setdefault(repr(together), (together, []))[1].append(op)
    for together, ops in sorted(alike.values(), key=lambda pair: len(pair[1])):
        first = ", ".join(f"`{op}`" for op in ops)
        for marks, names in together.items():
            rows.append(f"| {first} | {', '.join(names)} | {marks} |")
            first = ""
    return "\n".join(rows) + "\n"


def generate(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    for file in FILES:
        file.write_text(generate(file.read_text()))
