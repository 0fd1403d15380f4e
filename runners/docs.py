"""The table of algorithms in the README: `python -m runners.docs` writes it anew."""

import ai3
from runners.stub import ROOT

README = ROOT / "README.md"
BEGIN = "<!-- algorithms: written by `python -m runners.docs` from the registry -->\n"
END = "<!-- end of algorithms -->"


def table() -> str:
    rows = [f"| `{op}` | {', '.join(names)} |" for op, names in ai3.SUPPORTED_ALGORITHMS.items()]
    return "\n".join(["| operation | algorithms |", "| --- | --- |", *rows]) + "\n"


def generate(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(generate(README.read_text()))
