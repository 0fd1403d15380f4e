"""The swapped nn.ConvTranspose1d, nn.ConvTranspose2d and nn.ConvTranspose3d."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import fold, pad

from ai3.torch import layer, operators
from ai3.torch.layer import Config, kernel_of
from ai3.torch.modules.images import check, reach, rows, spread, two
from ai3.torch.modules.swapped import Swapped


class _ConvTranspose(Swapped):
    parts = ("_output_padding",)
    configuring = frozenset(
        {"stride", "padding", "output_padding", "dilation", "groups", "algorithm"}
    )
    layer = layer.ConvTranspose
    operator = staticmethod(operators.conv_transpose2d)
    gradients = staticmethod(operators.conv_transpose2d_gradients)

    @classmethod
    def attributes(cls, module: Any) -> dict[str, Any]:
        stride = spread(module, module.stride)
        added = [a % s for a, s in zip(spread(module, module.output_padding), stride, strict=True)]
        return {
            "stride": two(stride, 1),
            "padding": two(spread(module, module.padding), 0),
            "output_padding": two(added, 0),
            "dilation": two(spread(module, module.dilation), 1),
            "groups": module.groups,
        }

    @classmethod
    def some_shape(cls, module: Any) -> tuple[int, ...]:
        return (1, kernel_of(module.weight).shape[0], 32, 32)

    def extended(
        self, input: Tensor, output_size: Any
    ) -> tuple[Tensor, tuple[int, ...], Config | None]:
        """The input and the output padding, less than the stride, that give the output its size (a
        stride of padding is an element of zero more), and the configuration where it is not the
        module's own."""
        module: Any = self
        stride = spread(module, module.stride)
        if output_size is None:
            added = spread(module, module.output_padding)
        else:
            geometry = (module.stride, module.padding, module.kernel_size, len(stride))
            added = module._output_padding(input, output_size, *geometry, module.dilation)
        more = [a // s for a, s in zip(added, stride, strict=True)]
        if any(more):
            input = pad(input, [side for m in reversed(more) for side in (0, m)])
        added = tuple(a % s for a, s in zip(added, stride, strict=True))
        if output_size is None:
            return input, added, None
        attributes = self.attributes(self) | {"output_padding": two(added, 0)}
        return input, added, (*attributes.values(), self.__dict__.get("_memory"), self.algorithm)


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """A transposed convolution of images of one row."""

    kind = "conv_transpose1d"
    original = nn.ConvTranspose1d

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        check(self, input.shape, 1)
        input, _, config = self.extended(input, output_size)
        return self.compute(rows(input), self.weight, self.bias, config).squeeze(-2)

    @classmethod
    def image_shape(cls, module: Any, shape: Sequence[int]) -> tuple[int, ...]:
        check(module, shape, 1)
        return (*shape[:-1], 1, shape[-1])


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    kind = "conv_transpose2d"
    original = nn.ConvTranspose2d

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        input, _, config = self.extended(input, output_size)
        return self.compute(input, self.weight, self.bias, config)


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """A transposed convolution of planes to those of every plane of the kernel, which are then
    added up where they overlap."""

    kind = "conv_transpose3d"
    original = nn.ConvTranspose3d

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        check(self, input.shape, 3)
        input, added, config = self.extended(input, output_size)
        volumes = input if input.dim() == 5 else input[None]
        n, _, depth, *_ = volumes.shape
        planes = volumes.transpose(1, 2).flatten(0, 1)
        # (N * D, OC * KD, OH, OW)
        y = self.compute(planes, self.weight, None, config)
        y = self._added_up(y.unflatten(0, (n, depth)).transpose(1, 2), added[0])
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)[:, None, None, None]
        return y if input.dim() == 5 else y[0]

    @classmethod
    def image_shape(cls, module: Any, shape: Sequence[int]) -> tuple[int, ...]:
        check(module, shape, 3)
        return ((shape[0] if len(shape) == 5 else 1) * shape[-3], shape[-4], *shape[-2:])

    @classmethod
    def tensors(cls, module: Any) -> tuple[Tensor | None, ...]:
        return kernel_of(module.weight.detach()), None

    def _added_up(self, planes: Tensor, added: int) -> Tensor:
        """(N, OC, OD, OH, OW) of the planes (N, OC * KD, D, OH, OW): fold over depth."""
        depth, *extents = planes.shape[2:]
        kernel, stride, padding, dilation = (
            int(values[0])
            for values in (self.kernel_size, self.stride, self.padding, self.dilation)
        )
        if (kernel, stride, padding) == (1, 1, 0):
            return planes
        size = (depth - 1) * stride - 2 * padding + reach(kernel, dilation) + added
        columns, image = planes.flatten(2), (size, math.prod(extents))
        y = fold(columns, image, (kernel, 1), (dilation, 1), (padding, 0), (stride, 1))
        return y.unflatten(-1, extents)
