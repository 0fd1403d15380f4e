"""What a long run is at, on a terminal; nothing is written elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show `text`, then whatever the function given is called with, until the block ends.

    It stands still in between: an animation would take time from what is being measured.
    """
    console = Console(stderr=True)
    with Live(Text(text), console=console, auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(text), refresh=True)
