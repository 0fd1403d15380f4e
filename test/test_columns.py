"""Tables of text, at any width."""

import pytest

from ai3.columns import Column, cut, plain, table

COLUMNS = [
    Column("layer", least=12),
    Column("operation", least=12),
    Column("algorithm"),
    *(Column(heading, right=True) for heading in ("ms", "share")),
]
ROWS = [
    [
        "features.denseblock3.denselayer24.conv2",
        "scaled_dot_product_attention",
        "direct",
        "1.5",
        "",
    ],
    ["a", "conv2d", "implicit precomp gemm", "1234.567", "100.0%"],
]


@pytest.mark.parametrize(
    "text, width, expected",
    [
        ("abcdefgh", 8, "abcdefgh"),
        ("abcdefgh", 7, "abc…fgh"),
        ("abcdefgh", 6, "abc…gh"),
        ("abcdefgh", 1, "…"),
        ("", 1, ""),
    ],
)
def test_names_are_cut_in_the_middle(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 30])
def test_nothing_but_names_is_cut(width: int) -> None:
    from rich.console import Console

    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table("title", COLUMNS, ROWS, width))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    for row in ROWS:
        for column, cell in zip(COLUMNS, row, strict=True):
            if column.least is None:
                assert cell in text
            else:
                assert cut(cell, 12)[:6] in text and cut(cell, 12)[-5:] in text
    for column in COLUMNS:
        assert column.heading in text


def test_one_line_where_it_fits_and_two_where_not() -> None:
    assert plain(table("", COLUMNS, ROWS[1:], 80)).count("\n") == 2
    wide = [[*ROWS[1][:3], "1" * 25, "2" * 20]]
    assert plain(table("", COLUMNS, wide, 80)).count("\n") == 4


def test_names_that_are_cut_stay_different() -> None:
    alike = [[f"features.denseblock1.denselayer{i}.conv1", *ROWS[1][1:]] for i in range(12)]
    text = plain(table("", COLUMNS, alike, 64))
    assert all(row[0] in text for row in alike)
    assert len(set(text.splitlines())) >= len(alike)


def test_nothing_to_show() -> None:
    assert plain(table("", COLUMNS, [], 80)).splitlines()[0].split() == [
        "layer",
        "operation",
        "algorithm",
        "ms",
        "share",
    ]
