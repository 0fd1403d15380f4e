from collections.abc import Callable, Iterable, Sequence
from typing import Any


isa: str

levels: list[str]

class Tensor:
    """
    A dense array in memory of its own.

    Implements the buffer protocol (but for bfloat16) and DLPack, without a copy. Made from any array
    (a torch tensor, a numpy array, ...), whose elements it copies.
    """

    def __init__(self, tens: object) -> None: ...

    @staticmethod
    def of_bits(bits: Any) -> Tensor:
        """
        The bfloat16 tensor whose elements have these bits, an array of uint16.
        """

    @property
    def bits(self) -> Any:
        """
        The bits of a bfloat16 tensor's elements: a numpy.ndarray of uint16 that shares this tensor's
        memory.
        """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """Its name, such as 'float32'."""

    def numpy(self) -> Any:
        """A numpy.ndarray that shares this tensor's memory."""

    def torch(self) -> Any:
        """A torch.Tensor that shares this tensor's memory."""

    def to(self, out_type: type) -> Any:
        """
        This tensor as `out_type`: torch.Tensor, numpy.ndarray, memoryview or ai3.Tensor.

        Raises TypeError for any other type.
        """

    def __dlpack__(self, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def __reduce__(self) -> tuple[Any, ...]: ...

    def __deepcopy__(self, memo: object) -> object: ...

    def __len__(self) -> int: ...

    def __repr__(self) -> str: ...

class Halves:
    """
    An array of float32 held as the bfloat16 to which its elements are rounded and what that leaves.
    To the core it is the rounded one, wherever that is computed with, and elsewhere itself.
    """

    def __init__(self, array: object) -> None: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def restored(self) -> Tensor:
        """The array that it was made of."""

class DTypeError(TypeError):
    pass

def pointwise_functions() -> dict[str, int]:
    """The functions of pointwise programs, and how many operands each takes."""

class Spec:
    """The dtype, shape and layout of an array."""

    def __init__(self, dtype: str, shape: Sequence[int], layout: str = 'dense') -> None:
        """The layout is 'dense', 'channels_last' or 'blocked'."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def layout(self) -> str: ...

    @property
    def bytes(self) -> int: ...

    def __eq__(self, arg: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

class Weights:
    """The weights of one layer and what algorithms have packed of them."""

    @staticmethod
    def of(arrays: Iterable[object], copy: bool = True) -> Weights:
        """The arrays; None stands for an absent one."""

    @property
    def packed_bytes(self) -> int: ...

class Problem:
    """
    Everything that defines an operation's work: shapes, dtype, hyper-parameters, threads.
    """

    @property
    def op(self) -> str: ...

    @property
    def inputs(self) -> list[Spec]: ...

    @property
    def output(self) -> Spec: ...

    @property
    def threads(self) -> int: ...

    @property
    def key(self) -> str:
        """A text that tells problems apart which take different time."""

    def resolve(self, algorithm: str) -> str:
        """
        The algorithm that a name stands for: 'default' and 'guess' differ by problem.
        """

    def ranking(self) -> list[tuple[str, float]]:
        """
        The algorithms that can do the problem with their cost in cycles, measured or estimated, the
        least first; nothing is run.
        """

    def refusal(self, algorithm: str) -> str:
        """Why the algorithm cannot do this problem; empty where it can."""

    def measured(self, algorithm: str) -> float | None:
        """
        The cycles that an algorithm was measured to take; None where it was not.
        """

    def cost(self, algorithm: str) -> float:
        """
        The cost in cycles, measured or estimated; infinite where there is neither.
        """

    def takes_bfloat16(self, algorithm: str) -> bool:
        """
        Whether the algorithm computes with what is bfloat16 itself, not by way of float32.
        """

    def fusible(self, algorithm: str) -> bool:
        """
        Whether passes may fuse the problem with others when this algorithm does it.
        """

    def workspace_bytes(self, algorithm: str) -> int: ...

    def reference(self, *inputs: object) -> Tensor:
        """The result by plain loops with a float64 accumulator."""

    def run(self, algorithm: str, *inputs: object) -> Tensor:
        """Plans and runs the algorithm once."""

def problem(op: str, inputs: Sequence[Spec], weights: Weights | None = None, attributes: dict[str, Any] = {}, threads: int = 0) -> Problem:
    """
    The problem of an operation; ValueError says what does not fit. threads=0: as now set.
    """

def algorithms() -> dict[str, list[str]]:
    """Every operation with the names of its algorithms."""

class Call:
    """
    One layer, callable with arrays of any shape that it fits; plans are kept.

    Results are made by the library of the first input.
    """

    def __init__(self, op: str, attributes: dict[str, Any], algorithm: str, name: str = '') -> None: ...

    def set_weights(self, weights: Weights) -> None: ...

    def __call__(self, *inputs: object) -> Any: ...

    def run_with(self, input: object, weight: object, bias: object | None, stamp: int | None, frozen: bool = False) -> Any:
        """
        The same with the weights of somebody who may change them between calls. They count as
        unchanged while their memory, `stamp` and, unless they are frozen, their elements are; a stamp of None never does.
        """

def specs_of(arrays: Sequence[object]) -> tuple[Spec, ...]:
    """The Spec of each array; TypeError for what the core cannot read."""

class Executor:
    """
    A graph compiled for one set of input shapes; safe to call from any thread.
    """

    def __init__(self, inputs: Sequence[Spec], outputs: Sequence[Spec], constants: Iterable[object], steps: Sequence[tuple[Problem, str, Sequence[tuple[str, int, int]], tuple[str, int, int]]], arena_bytes: int) -> None:
        """
        Steps are (problem, algorithm, input locations, output location); a location is a
        place ('input', 'output', 'constant' or 'arena'), which of them, and a byte in it.
        """

    @property
    def algorithms(self) -> list[str]:
        """The algorithm that each step runs, 'default' resolved."""

    @property
    def arena_bytes(self) -> int: ...

    @property
    def workspace_bytes(self) -> int: ...

    def __call__(self, inputs: Sequence[object], own: bool = False) -> list[Any]:
        """
        The outputs, as arrays of the first input's library or, with `own`, as Tensors.
        """

    def profile(self, inputs: Sequence[object]) -> list[float]:
        """Runs once; the time of each step in ms."""

class Schedule:
    """
    The nodes of a graph in the order in which they run, for inputs of certain sizes.

    Values are numbered: the inputs, then the output of each node.
    """

    def __init__(self, inputs: Sequence[Spec], nodes: Sequence[tuple[Sequence[int], Problem | None, str, bool, bool, str, Sequence[int], Callable[..., dict[str, Any]] | None]], constants: Iterable[object], outputs: Sequence[int]) -> None:
        """
        Nodes are (inputs, problem, algorithm, view, in_place, role, reads, attributes): a problem
        of None is the next constant; `view` and `in_place` as in ai3.ops; `attributes` gives those
        for other shapes of the values that it `reads`. The role is 'step'; or 'probe', which only
        has a shape, or 'identity', whose shape must also be its input's.
        """

    def resized(self, inputs: Sequence[Spec], most: int) -> Schedule | None:
        """
        The same nodes for inputs of other sizes; None where one of them cannot be done then or
        its arrays are not alike: of other ranks, other extents are 1 or 0, or others of them are
        of one shape; or an output is as large as `most` bytes.
        """

    def spec(self, value: int) -> Spec:
        """The spec of a value."""

    def resolved(self, node: int) -> str:
        """
        The algorithm that a node runs, 'default' resolved; empty for a constant.
        """

    def executor(self) -> tuple[Executor, list[int]]:
        """
        An executor with every value placed and every node planned, and the node of each step.
        """

def same_memory(a: Spec, b: Spec) -> bool:
    """Whether an image has the same memory in the layouts of both specs."""

def plan_memory(lifetimes: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """
    Offsets such that no two values that live at the same time overlap, and the bytes that they
    take. A lifetime is (bytes, first step, last step).
    """

def add_algorithm(op: str, name: str, torch: bool, layouts: Sequence[str], answers: object) -> None:
    """
    Adds an algorithm, or puts it in the place of one that was added under that name.
    `answers` has refusal, workspace_bytes and cost (or None) of a description, and plan of that and the
    weights, which makes a function of inputs, output and workspace. Arrays are torch's or NumPy's,
    images dense or in these layouts.
    """

def load_algorithm(op: str, name: str, path: str) -> None:
    """
    The same for one in a library that was compiled with plugin/library.cpp at this level.
    """

def remove_algorithm(op: str, name: str) -> None:
    """Removes an algorithm that was added."""

def probe(problem: Problem, algorithm: str, inputs: Sequence[object], fills: Sequence[int]) -> tuple[list[Tensor], list[str]]:
    """
    Plans once and runs for each fill, a byte that output, workspace and what lies around the
    inputs are full of before. Inputs are dense arrays of the memory in the problem's layouts.
    Gives the outputs' memory, as bytes, and what was written that is not the output's or the
    workspace's.
    """

def threads_of(threads: int) -> int:
    """How many threads share a loop that asks for so many."""

kernels: str

def measure_by(open: Callable[[], Any] | None) -> None:
    """
    Plan from now on by the measured times that open() gives when the first problem is planned,
    None where there are none: an object with `scales`, by operation and threads what estimates
    are to be multiplied with, and of(key), by algorithm the cycles of the problem of that key and
    whether 'default' may stand for it.
    """

def estimates_only(only: bool) -> bool:
    """
    Whether this thread plans by estimates alone from now on; what it did before.
    """

def times_in_use() -> int:
    """
    A number that tells apart the measured times by which this thread plans; 0 where it plans by
    estimates alone.
    """

class Trial:
    """
    One algorithm on one problem with arrays of its own, timed as it would run inside of a
    network. Not to be used by two threads at a time.
    """

    def __init__(self, problem: Problem, algorithm: str) -> None: ...

    def seconds(self, flushed: int) -> float:
        """
        Of one run, after as many bytes have gone through the threads' caches and the inputs have
        been written.
        """

    @property
    def workspace_bytes(self) -> int: ...

def max_threads() -> int:
    """Threads that a call from this thread will use."""

def fma_peak(dtype: str = 'float32', threads: int = 1) -> float:
    """
    Measured peak of multiply-adds from registers, GFLOP/s; of bfloat16 those of pairs,
    0 where the processor has none.
    """

def force_pairs(pairs: bool | None) -> None:
    """
    Plan from now on as on a processor that multiplies bfloat16 by pairs twice as fast as float32, if
    this one can at all, or as on one that does not; None: by what was measured.
    """
