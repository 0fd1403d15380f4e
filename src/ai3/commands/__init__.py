"""The program `ai3`: a file for each of its commands."""

import sys
from collections.abc import Sequence

import typer

from ai3.commands import algorithms, bench, cache, compare, explain, platforms, tune, validate
from ai3.commands.output import MISUSED

app = typer.Typer(
    name="ai3",
    help="Choose, layer by layer, the algorithm by which a network computes, and see what each "
    "takes. `ai3 COMMAND --help` tells more of a command.\n\n"
    "Exits with 0, with 1 where what was asked about is wrong or differs, and with 2 where it "
    "was asked wrongly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (platforms, algorithms, bench, explain, tune, compare, cache, validate):
    command.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with these arguments, by default the process's; what it exits with."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(validate.completed(given), prog_name="ai3")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (ValueError, OSError) as error:
        print(f"ai3: {error}", file=sys.stderr)
        return MISUSED
    return 0
