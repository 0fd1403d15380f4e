"""Images at other sizes, read at computed places, and put together of windows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .compare import Calls, converted

SIZES = {1: (17,), 2: (8, 7), 3: (7, 9, 8)}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
both_ways = pytest.mark.parametrize("tracing", ["fx", "export"])


def images(dims: int) -> Tensor:
    return torch.randn(2, 3, *SIZES[dims])


def resized(dims: int, **options: Any) -> nn.Module:
    """A convolution, after which it is known how many dimensions there are, and the change."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](3, 3, 1)
    return nn.Sequential(conv, Calls(lambda x: F.interpolate(x, **options))).eval()


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("size", [(5, 3, 9), 2.0, 1.3])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_linear(dims: int, size: Any, corners: bool, tracing: str) -> None:
    given = {"scale_factor": size} if isinstance(size, float) else {"size": size[:dims]}
    net = resized(dims, **given, mode=LINEAR[dims], align_corners=corners)
    converted(net, images(dims), tracing)


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area"])
@pytest.mark.parametrize("size", [(5, 3, 9), 2.0, 1.3])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_weights(dims: int, size: Any, mode: str, tracing: str) -> None:
    given = {"scale_factor": size} if isinstance(size, float) else {"size": size[:dims]}
    converted(resized(dims, **given, mode=mode), images(dims), tracing)


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        {"size": (5, 3)},
        {"size": 11},
        {"scale_factor": 0.6},
        {"scale_factor": (1.7, 2.0)},
        {"scale_factor": 1.6, "recompute_scale_factor": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smoothed(mode: str, given: dict[str, Any], corners: bool, tracing: str) -> None:
    options = {"mode": mode, "align_corners": corners, "antialias": True, **given}
    converted(Calls(lambda x: F.interpolate(x, **options)).eval(), images(2), tracing)


@both_ways
def test_modules(tracing: str) -> None:
    net = nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.UpsamplingBilinear2d(scale_factor=2),
        nn.Upsample((9, 8), mode="bicubic"),
        nn.UpsamplingNearest2d(size=9),
    )
    converted(net.eval(), images(2), tracing)


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_computed_places(mode: str, padding: str, corners: bool, tracing: str) -> None:
    def read(x: Tensor) -> Tensor:
        return F.grid_sample(x, x.permute(0, 2, 3, 1)[..., :2] * 1.3, mode, padding, corners)

    converted(Calls(read).eval(), images(2), tracing)


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_computed_places_in_volumes(mode: str, padding: str, corners: bool, tracing: str) -> None:
    def read(x: Tensor) -> Tensor:
        return F.grid_sample(x, x.permute(0, 2, 3, 4, 1)[:, 1:] * 1.3, mode, padding, corners)

    model = converted(Calls(read).eval(), images(3), tracing)
    x = images(3)[:1]
    torch.testing.assert_close(model(x), read(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("extent", [1, 2])
@pytest.mark.parametrize("corners", [True, False])
def test_places_in_small_images(corners: bool, extent: int, mode: str) -> None:
    grid = torch.linspace(-2, 2, 40).reshape(2, 5, 2, 2)
    for padding in ("zeros", "border", "reflection"):

        def read(x: Tensor, padding: str = padding) -> Tensor:
            return F.grid_sample(x, grid, mode, padding, corners)

        converted(Calls(read).eval(), torch.randn(2, 3, extent, extent), "fx")


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_places_that_are_nan(mode: str, padding: str) -> None:
    grid = torch.full((1, 1, 2, 2), float("nan"))
    grid[..., 1, :] = 0.2

    def read(x: Tensor) -> Tensor:
        return F.grid_sample(x, grid, mode, padding, False)

    converted(Calls(read).eval(), torch.randn(1, 3, 3, 4), "fx")


@both_ways
@pytest.mark.parametrize("corners", [True, False])
def test_affine_places_in_volumes(corners: bool, tracing: str) -> None:
    def read(x: Tensor) -> Any:
        grid = F.affine_grid(x[:, :, 0, 0, :4] * 0.3, x.shape, corners)
        one = F.affine_grid(x[:, :, 0, 0, :4], [2, 3, 4, 1, 5], corners)
        return F.grid_sample(x, grid, align_corners=corners), one

    converted(nn.Sequential(nn.Conv3d(3, 3, 1), Calls(read)).eval(), images(3), tracing)


@both_ways
@pytest.mark.parametrize("corners", [True, False])
def test_affine_places(corners: bool, tracing: str) -> None:
    def read(x: Tensor) -> Tensor:
        grid = F.affine_grid(x[:, :2, 0, :3], x.shape, corners)
        return F.grid_sample(x, grid, align_corners=corners)

    converted(Calls(read).eval(), images(2), tracing)


def test_what_lies_beyond_the_border_is_not_read() -> None:
    x = torch.full((1, 1, 2, 2), float("inf"))
    x[0, 0, 0, 0] = 1.0

    def read(x: Tensor) -> Tensor:
        return F.grid_sample(x, torch.full((1, 1, 1, 2), -1.0), align_corners=False)

    converted(nn.Sequential(nn.ReLU(), Calls(read)).eval(), x, "fx")


@both_ways
@pytest.mark.parametrize(
    "windows", [(3, 1, 0, 1), (2, 1, 0, 2), ((3, 2), (1, 2), (1, 0), (2, 1))], ids=str
)
def test_windows_and_back(windows: Any, tracing: str) -> None:
    def there_and_back(x: Tensor) -> Tensor:
        return F.fold(F.unfold(x, *windows) * 2, (8, 7), *windows)

    converted(Calls(there_and_back).eval(), images(2), tracing)
