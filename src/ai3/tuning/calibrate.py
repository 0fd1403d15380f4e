"""One scale for what was measured and what is estimated."""

from collections.abc import Iterable, Iterator, Sequence

USUAL_CYCLES = 3.5e9
"""In a second, by which times are told where nothing was estimated."""


def calibrated(
    rows: Iterable[tuple[str, float, float | None]],
) -> Iterator[tuple[str, float, float]]:
    """For each operation what brings its estimates to the scale of what was measured, and how many
    of all estimates' cycles are in a second. By medians of the ratios, which the worst half of the
    estimates does not move; an estimate of what was never measured keeps its scale."""
    ratios: dict[str, list[float]] = {}
    for op, seconds, cycles in rows:
        known = ratios.setdefault(op, [])
        if cycles:
            known.append(seconds / cycles)
    everything = [ratio for of_op in ratios.values() for ratio in of_op]
    cycle = _median(everything) if everything else 1 / USUAL_CYCLES
    for op, known in ratios.items():
        yield op, (_median(known) / cycle if known else 1.0), 1 / cycle


def _median(values: Sequence[float]) -> float:
    middle = len(values) // 2
    ordered = sorted(values)
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
