"""Rows and volumes as the images that the core's convolutions take."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pad


def check(module: Any, shape: Sequence[int], dims: int) -> None:
    """Refuse a shape that is no input of the module's."""
    channels = module.in_channels
    if len(shape) not in (dims + 1, dims + 2) or shape[-1 - dims] != channels:
        extents = ("L",) if dims == 1 else ("D", "H", "W")
        wanted = ", ".join(map(str, (channels, *extents)))
        name = module.__dict__.get("_name") or type(module).__name__
        raise ValueError(
            f"{name}: the input must be (N, {wanted}) or ({wanted}), not {tuple(shape)}"
        )


def spread(module: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    """One number for each dimension: a single one is that of all."""
    return tuple(values) * (len(module.kernel_size) if len(values) == 1 else 1)


def two(values: Sequence[Any], above: Any) -> tuple[Any, Any]:
    """What holds for the two dimensions of images: of rows after what holds `above` them, of
    volumes without depth."""
    return (values[-2] if len(values) > 1 else above, values[-1])


def rows(x: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L)."""
    return x.unsqueeze(-2)


def reach(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) + 1


def windows(
    x: Tensor, pads: tuple[int, int, str], kernel: int, stride: int, dilation: int
) -> Tensor:
    """For each output plane, of volumes (N, C, D, H, W) padded along their depth, the planes that
    the kernel reaches: (N, OD, C, KD, H, W)."""
    front, back, mode = pads
    if front or back:
        x = pad(x, (0, 0, 0, 0, front, back), "constant" if mode == "zeros" else mode)
    span = reach(kernel, dilation)
    if x.shape[2] < span:
        raise ValueError(
            f"the kernel reaches over {span} planes, more than the {x.shape[2]} of the padded input"
        )
    reached = x.unfold(2, span, stride)[..., ::dilation]
    return reached.permute(0, 2, 1, 5, 3, 4)
