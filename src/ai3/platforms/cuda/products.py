"""cuBLASLt's products as the platform's algorithms of linear layers and of matrices."""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf, prod
from typing import Any

from ai3.platforms import epilogue
from ai3.platforms.cuda.cublas import DTYPES, EPILOGUES, WORKSPACE, CublasError, Product, Shapes
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

_KEPT = 512
_SOME_ADDRESS = 1 << 12
"""Of a bias that is not known yet, which nothing reads."""


class _Products(Algorithm):
    name = "cublas"

    def __init__(self, platform: Any) -> None:
        self._platform = platform
        self._answers: OrderedDict[Any, int | str] = OrderedDict()

    def shapes(self, p: Problem) -> Shapes:
        raise NotImplementedError

    def refusal(self, p: Problem) -> str:
        known = p.dtype in DTYPES
        return "" if known else f"cuBLASLt computes {', '.join(DTYPES)}, not {p.dtype}"

    def probe(self, p: Problem) -> str:
        answer = self._answer(p)
        return answer if isinstance(answer, str) else ""

    def cost(self, p: Problem) -> float:
        try:
            _ = self._platform.cublas
        except OSError:
            return inf
        return 1.0

    def workspace_bytes(self, p: Problem) -> int:
        answer = self._answer(p)
        return answer if isinstance(answer, int) else 0

    def _answer(self, p: Problem) -> int | str:
        """The bytes of workspace that cuBLASLt's choice takes, or why it has none."""
        key = (repr(p), p.memory, self._platform.settings(), self._platform.current_device())
        if key not in self._answers:
            try:
                self._answers[key] = self._made(p, None).workspace
            except (CublasError, OSError) as error:
                self._answers[key] = str(error)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return self._answers[key]

    def _made(self, p: Problem, bias: Any) -> Product:
        platform = self._platform
        _, tf32, _ = platform.settings()
        has_bias = p.op == "linear" and p.has_bias
        address = None
        if has_bias:
            address = _SOME_ADDRESS if bias is None else bias.data_ptr()
        memory = WORKSPACE if p.memory is None else min(WORKSPACE, p.memory)
        number = EPILOGUES[epilogue.activation_of(p), has_bias]
        return Product(
            *(platform.cublas, platform.current_device(), self.shapes(p), p.dtype, tf32),
            *(number, address, memory),
        )


class Linear(_Products):
    """output (rows, OC) = input (rows, IC) * weight (OC, IC)^T, as cuBLASLt has it by columns:
    output^T = (weight^T)^T * input^T, with bias and activation in the same call."""

    def shapes(self, p: Problem) -> Shapes:
        return Shapes(p.OC, p.rows, p.IC, transposed=True)

    def fuses(self, p: Problem) -> bool:
        return (epilogue.activation_of(p), False) in EPILOGUES and not epilogue.has_residual(p)

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        own = (*weights, None)[:2]
        run = self._made(p, own[1]).run

        def linear(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
            memory = None if workspace is None else workspace.data_ptr()
            run(own[0].data_ptr(), inputs[0].data_ptr(), output.data_ptr(), memory)

        return linear


class Matmul(_Products):
    """output (M, N) = a (M, K) * b (K, N), by columns output^T = b^T * a^T, of many matrices at
    once."""

    def refusal(self, p: Problem) -> str:
        if any(len(shape) < 2 for shape in p.inputs):
            return "an input is a vector"
        if p.dtype != p.input_dtypes[0] or p.dtype != p.input_dtypes[1]:
            return "the inputs are of two dtypes"
        a, b = (shape[:-2] for shape in p.inputs)
        if prod(a) != 1 and prod(b) != 1 and a != b:
            return f"matrices {a} are repeated for {b}, or the other way round"
        return super().refusal(p)

    def shapes(self, p: Problem) -> Shapes:
        a, b = p.inputs
        (rows, k), n = a[-2:], b[-1]
        many_a, many_b = prod(a[:-2]), prod(b[:-2])
        if many_b == 1:  # all rows by the same matrix
            return Shapes(n, many_a * rows, k)
        strides = (k * n, 0 if many_a == 1 else rows * k, rows * n)
        return Shapes(n, rows, k, batch=many_b, strides=strides)

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        run = self._made(p, None).run

        def matmul(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
            memory = None if workspace is None else workspace.data_ptr()
            run(inputs[1].data_ptr(), inputs[0].data_ptr(), output.data_ptr(), memory)

        return matmul


def algorithms_of(platform: Any) -> dict[str, list[Algorithm]]:
    return {"linear": [Linear(platform)], "matmul": [Matmul(platform)]}
