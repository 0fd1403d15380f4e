"""What `swap_backend` makes of a network on a device."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ai3 import _core
from ai3.graph import Graph, Node
from ai3.model import Model
from ai3.platforms import platform_of
from ai3.torch import foreign
from ai3.torch.device_executor import (
    CompiledOnDevice,
    DeviceWeights,
    Place,
    compile_on_device,
)

if TYPE_CHECKING:
    from ai3.explanation.explanation import Explanation

_KEPT = 16


class DeviceModel(Model):
    """A `Model` whose weights, inputs and outputs are torch's tensors on one device. Floating-point
    inputs are computed with in the dtype that the network's weights had."""

    _place: Place

    @classmethod
    def on_device(
        cls,
        graph: Graph,
        unsupported: str,
        device: torch.device,
        dtype: torch.dtype,
        memory: int | None = None,
    ) -> "DeviceModel":
        model = cls.__new__(cls)
        platform = platform_of(device.type)
        assert platform is not None
        model._place = Place(platform, device, dtype, memory)
        model._set_graph(graph, unsupported)
        return model

    @property
    def device(self) -> torch.device:
        return self._place.device

    def __getstate__(self) -> dict[str, Any]:
        place = self._place
        own = {"device": place.device, "dtype": place.dtype, "memory": place.memory}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        made = self.on_device(**{key: value for key, value in state.items() if key != "pins"})
        self.__dict__.update(made.__dict__)

    def refusal_of_plans(self) -> str:
        return (
            f"the model is on {self.device}, and plans and tuning are for models in CPU memory: "
            "tune the torch network there, and convert it again"
        )

    def explain(self, *inputs: Any, repeat: int = 5, errors: bool = True) -> "Explanation":
        raise ValueError(
            f"the model is on {self.device}, and explain is of the CPU: see its report(), or "
            "convert the network in CPU memory"
        )

    def _set_graph(self, graph: Graph, unsupported: str = "raise") -> None:
        super()._set_graph(graph, unsupported)
        self._held = DeviceWeights(self._place)
        self._compileds: OrderedDict[Any, CompiledOnDevice] = OrderedDict()
        self._parts = tuple(
            part.having(call=foreign.moved(part.call, self._place.device))
            if isinstance(part, Node)
            else part
            for part in self._parts
        )

    def _readable(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs) != len(self._graph.inputs):
            raise ValueError(f"the model takes {len(self._graph.inputs)} inputs, not {len(inputs)}")
        for x in inputs:
            if not isinstance(x, Tensor):
                raise TypeError(
                    f"the model takes torch tensors on {self.device}, not a {type(x).__name__}"
                )
            if x.device != self.device:
                raise ValueError(
                    f"the model is on {self.device}, but an input is on {x.device}: move one"
                )
            if x.layout is not torch.strided or x.is_quantized:
                raise TypeError(f"expected a dense tensor, not one of layout {x.layout}")
        return [x.detach().resolve_neg() for x in inputs]

    def _prepare(self, part: Graph, inputs: Sequence[Any]) -> tuple[Any, Any]:
        specs = self._specs_of(inputs)
        return self._compiled(part, specs).executor, specs

    def _compiled(self, part: Graph, specs: tuple[_core.Spec, ...]) -> Any:
        key = (id(part), specs)
        with self._compiling:
            found = self._compileds.get(key)
            if found is None:
                found = compile_on_device(
                    part, specs, self._place, self._weights, self._held, self._unsupported
                )
                self._compileds[key] = found
                while len(self._compileds) > _KEPT * len(self._parts):
                    self._compileds.popitem(last=False)
            self._compileds.move_to_end(key)
        return found

    def _specs_of(self, inputs: Sequence[Tensor]) -> tuple[_core.Spec, ...]:
        return tuple(_core.Spec(self._dtype_of(x), tuple(x.shape)) for x in inputs)

    def _zeros(self, spec: _core.Spec) -> Tensor:
        dtype = self._place.dtype if spec.dtype == "float32" else getattr(torch, spec.dtype)
        return torch.zeros(spec.shape, dtype=dtype, device=self.device)

    def _dtype_of(self, x: Tensor) -> str:
        """As the graph has it, in which what the place holds in a half is float32."""
        if x.is_floating_point() and self._place.dtype is not torch.float64:
            return "float32"
        return str(x.dtype).removeprefix("torch.")
