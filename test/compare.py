import torch


def assert_close(actual: torch.Tensor, expected: torch.Tensor, epsilons: float = 100) -> None:
    """Largest difference at most `epsilons` machine epsilons of the largest expected value: what
    the rounding of a whole network adds up to, while one wrong weight is thousands."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    largest = expected.abs().max().item()
    allowed = epsilons * torch.finfo(expected.dtype).eps * largest
    difference = (actual - expected).abs().max().item()
    assert difference <= allowed, f"{difference:.3g} apart, {allowed:.3g} allowed"
