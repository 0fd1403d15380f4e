"""What commands write."""

import json
from typing import Annotated, Any

import typer

WRONG, MISUSED = 1, 2
"""What the program exits with where what it looked at is wrong, and where it was asked wrongly."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs, and nothing else.")]


def show(view: Any) -> None:
    """Print a text, or what rich can print, on standard output."""
    from rich.console import Console

    Console(soft_wrap=False).print(view, highlight=False, crop=False)


def show_json(document: Any) -> None:
    print(json.dumps(document, indent=1))
