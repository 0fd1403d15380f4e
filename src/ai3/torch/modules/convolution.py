"""The swapped nn.Conv1d, nn.Conv2d and nn.Conv3d."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ai3.algorithms import GRADIENTS, REGISTERED
from ai3.platforms import was_brought
from ai3.selector import Choice, Conv2dAlgorithms
from ai3.torch import layer, operators
from ai3.torch.layer import Config, kernel_of
from ai3.torch.modules.images import check, reach, rows, spread, two, windows
from ai3.torch.modules.swapped import Asked, Swapped


class _Convolution(Swapped):
    """Its gradients are computed by `grad_input` and `grad_weight`."""

    parts = ("_conv_forward",)
    configuring = frozenset(
        {
            *("stride", "padding", "dilation", "groups", "padding_mode"),
            *("algorithm", "grad_input", "grad_weight"),
        }
    )
    layer = layer.Convolution
    operator = staticmethod(operators.conv2d)
    gradients = staticmethod(operators.conv2d_gradients)

    grad_input: str
    grad_weight: str

    def configure(self, choice: Any) -> None:
        chosen = _algorithms(choice)
        self.__dict__.update(
            algorithm=chosen.forward, grad_input=chosen.grad_input, grad_weight=chosen.grad_weight
        )

    def config(self) -> Config:
        return (*super().config(), self.grad_input, self.grad_weight)

    def chosen(self) -> list[tuple[str, str]]:
        gradients = [(op, getattr(self, name)) for name, op in GRADIENTS.items()]
        return [*super().chosen(), *gradients]

    def extra_repr(self) -> str:
        text = super().extra_repr()
        for name in ("grad_input", "grad_weight"):
            if (algorithm := getattr(self, name)) != "default":
                text += f", {name}={algorithm!r}"
        return text

    @classmethod
    def attributes(cls, module: Any) -> dict[str, Any]:
        (top, bottom), (left, right) = two(borders(module), (0, 0))
        return {
            "stride": two(spread(module, module.stride), 1),
            "padding": (top, bottom, left, right),
            "dilation": two(spread(module, module.dilation), 1),
            "groups": module.groups,
            "padding_mode": module.padding_mode,
        }

    @classmethod
    def some_shape(cls, module: Any) -> tuple[int, ...]:
        kernel = kernel_of(module.weight).shape
        dilation = cls.attributes(module)["dilation"]
        extents = [max(32, 2 * d * k) for d, k in zip(dilation, kernel[2:], strict=True)]
        return (1, kernel[1] * module.groups, *extents)

    @classmethod
    def problems(
        cls,
        module: Any,
        choice: Choice,
        shape: Sequence[int] | None,
        memory: int | None = None,
    ) -> Iterator[tuple[str, Asked]]:
        chosen = _algorithms(choice)
        forward = cls.problem(module, shape, memory)
        yield chosen.forward, forward
        input, grad = forward.inputs[0].shape, forward.output.shape
        attributes, kernel = cls.attributes(module), tuple(kernel_of(module.weight).shape[2:])
        certain = shape is not None
        if chosen.grad_input != "default":
            sized = attributes | {"input_size": tuple(input[-2:])}
            of = cls.asked(module, "conv2d_grad_input", [grad], sized, certain, memory)
            yield chosen.grad_input, of
        if chosen.grad_weight != "default":
            sized = attributes | {"kernel_size": kernel}
            of = cls.asked(module, "conv2d_grad_weight", [input, grad], sized, certain, memory)
            yield chosen.grad_weight, of


class Conv1d(_Convolution, nn.Conv1d):
    """A convolution of images of one row."""

    kind = "conv1d"
    original = nn.Conv1d

    def forward(self, input: Tensor) -> Tensor:
        check(self, input.shape, 1)
        return self.compute(rows(input), self.weight, self.bias).squeeze(-2)

    @classmethod
    def image_shape(cls, module: Any, shape: Sequence[int]) -> tuple[int, ...]:
        check(module, shape, 1)
        return (*shape[:-1], 1, shape[-1])


class Conv2d(_Convolution, nn.Conv2d):
    kind = "conv2d"
    original = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        # Asking the module for them costs half a microsecond each.
        parameters: dict[str, Any] = self._parameters
        try:
            weight, bias = parameters["weight"], parameters["bias"]
        except KeyError:  # parametrised, pruned
            weight, bias = self.weight, self.bias
        return self.compute(input, weight, bias)


class Conv3d(_Convolution, nn.Conv3d):
    """A convolution of planes, whose channels are those of all planes that a kernel reaches."""

    kind = "conv3d"
    original = nn.Conv3d

    def forward(self, input: Tensor) -> Tensor:
        check(self, input.shape, 3)
        (front, back), *_ = borders(self)
        volumes = input if input.dim() == 5 else input[None]
        geometry = (self.kernel_size[0], self.stride[0], self.dilation[0])
        images = windows(volumes, (front, back, self.padding_mode), *geometry)
        y = self.compute(images.flatten(0, 1).flatten(1, 2), self.weight, self.bias)
        y = y.unflatten(0, images.shape[:2]).transpose(1, 2)
        return y if input.dim() == 5 else y[0]

    @classmethod
    def image_shape(cls, module: Any, shape: Sequence[int]) -> tuple[int, ...]:
        check(module, shape, 3)
        (front, back), *_ = borders(module)
        n = shape[0] if len(shape) == 5 else 1
        span = shape[-3] + front + back - reach(module.kernel_size[0], module.dilation[0])
        planes = max(0, span // module.stride[0] + 1)
        return (n * planes, shape[-4] * module.kernel_size[0], *shape[-2:])


def borders(module: Any) -> list[tuple[int, int]]:
    """The padding before and after, for each dimension."""
    kernel = module.kernel_size
    if module.padding == "valid":
        return [(0, 0)] * len(kernel)
    if module.padding == "same":
        dilation = spread(module, module.dilation)
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(p), int(p)) for p in spread(module, module.padding)]


def _algorithms(choice: Any) -> Conv2dAlgorithms:
    """The choice, an algorithm of the user's with the gradients that it brings."""
    if isinstance(choice, Conv2dAlgorithms):
        return choice
    brings = {
        gradient: choice
        for gradient, op in GRADIENTS.items()
        if ((op, choice) in REGISTERED and ("conv2d", choice) in REGISTERED)
        or was_brought(op, choice)
    }
    return Conv2dAlgorithms(choice, **brings)
