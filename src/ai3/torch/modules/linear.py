"""The swapped nn.Linear."""

from typing import Any

from torch import Tensor, nn

from ai3.torch import layer, operators
from ai3.torch.modules.swapped import Swapped


class Linear(Swapped, nn.Linear):
    kind = "linear"
    original = nn.Linear
    layer = layer.Linear
    operator = staticmethod(operators.linear)
    gradients = staticmethod(operators.linear_gradients)

    def forward(self, input: Tensor) -> Tensor:
        return self.compute(input, self.weight, self.bias)

    @classmethod
    def some_shape(cls, module: Any) -> tuple[int, ...]:
        return (4096, module.in_features)
