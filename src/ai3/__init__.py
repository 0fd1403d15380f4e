"""Choose, per layer, the algorithm by which a deep neural network computes.

`swap` and `swap_conv2d` swap modules of a torch network in place; `swap_backend` converts the whole
network into a `Model`. torch is imported only when a torch network is given.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ai3 import _core, algorithms, errors, file, layers, tuning
from ai3._core import Tensor
from ai3.algorithms import algorithm, load_algorithm, remove_algorithm
from ai3.compiled import include_dir
from ai3.model import Model
from ai3.plan import Plan, load_plan, taken
from ai3.platforms import is_available, platforms, supported, sycl
from ai3.selector import AlgorithmicSelector, Conv2dAlgorithms
from ai3.tuning import tune
from ai3.tuning.tuned import Tuned

if TYPE_CHECKING:
    import torch

    from ai3.explanation.explanation import Explanation
    from ai3.torch.swap_modules import SwappedModule
    from ai3.validation.trial import Outcome
    from ai3.validation.validate import Validation

__all__ = [
    "FROM_BACKEND",
    "SUPPORTED_ALGORITHMS",
    "AlgorithmicSelector",
    "Conv2dAlgorithms",
    "Model",
    "Plan",
    "Tensor",
    "algorithm",
    "check",
    "errors",
    "explain",
    "freeze",
    "include_dir",
    "layers",
    "load",
    "load_algorithm",
    "load_plan",
    "platforms",
    "remove_algorithm",
    "restore",
    "swap",
    "swap_backend",
    "swap_conv2d",
    "swapped",
    "tune",
    "tuning",
    "unfreeze",
    "using_cublas",
    "using_cudnn",
    "using_mps_and_metal",
    "using_sycl",
    "validate",
]
__version__ = "0.1.0"

SUPPORTED_ALGORITHMS: dict[str, list[str]]
"""The operations and the algorithms of each, on this processor or any platform, "default" last."""

FROM_BACKEND: str | None = None
"""The framework of the networks given to the swapping functions: "torch", or None to infer it."""


def swap(
    module: "torch.nn.Module",
    algos: Mapping[str, AlgorithmicSelector | None],
    sample_input_shape: "Sequence[Any] | torch.Tensor | None" = None,
    *,
    unsupported: str = "raise",
    swap_with: "Callable[[Any, Any], torch.nn.Module] | None" = None,
    memory: int | None = None,
) -> None:
    """Swap, in place, modules of a network for an algorithm.

    The network stays a torch network: its parameters, hooks and state dict are the same objects,
    and it can be trained, compiled and swapped again. Modules that cannot be swapped (a subclass
    with a `forward` of its own, one that is quantised or where nothing of ai3 runs) are left alone;
    `swapped` lists them with the reason. Those on a device of a platform's, see `platforms`, get
    its algorithms; moved elsewhere they keep the names. In inference
    `torch.nn.TransformerEncoderLayer` reads the weights of its linear layers and calls none:
    `torch.backends.mha.set_fastpath_enabled(False)` has it call them.

    Args:
        module: the network, or a module itself.
        algos: which kinds of module are swapped, "conv1d", "conv2d", "conv3d",
            "conv_transpose1d", "conv_transpose2d", "conv_transpose3d" or "linear", and for each how
            its algorithms are selected, see `AlgorithmicSelector`; None is "default".
        sample_input_shape: shape of the network's input, for selectors that ask for the shape of
            each module's input, (N, C, H, W) or unbatched; as for `swap_backend`.
        unsupported: what happens where the chosen algorithm cannot do a module: "raise", or the
            name of the algorithm that is used there instead.
        swap_with: a module type, or a function, that is called with each module and what the
            selector chose for it; the module that it makes takes its place.
        memory: the bytes that the workspace of a call may have on a device, of gradients too; an
            algorithm that needs more is refused, and "default" takes another. None for no limit.

    Raises:
        ai3.errors.SelectionError: a selector that names no algorithm, or does not fit the network.
        ai3.errors.UnsupportedAlgorithmError: an algorithm that cannot do a module, or a module that
            is still lazy.
        ValueError: a kind that is not among those above, a sample that does not go through the
            network, a `memory` where no module is on a device.
        Whatever is raised, the network is unchanged.

    Warns:
        UserWarning: a sequence is given for a network whose order of calls cannot be traced, and no
            sample_input_shape to run it with; the order is then that of registration.
    """
    _torch_backend(module).swap(module, algos, sample_input_shape, unsupported, swap_with, memory)


def swap_conv2d(
    module: "torch.nn.Module",
    algos: AlgorithmicSelector | None = None,
    sample_input_shape: "Sequence[Any] | torch.Tensor | None" = None,
    *,
    unsupported: str = "raise",
    swap_with: "Callable[[torch.nn.Conv2d, Any], torch.nn.Module] | None" = None,
    memory: int | None = None,
    plan: "Plan | str | PathLike[str] | None" = None,
) -> None:
    """Swap, in place, every `torch.nn.Conv2d` of a network for an algorithm.

    `swap` of {"conv2d": algos}, with its arguments and what it raises. What `tune` gives is such a
    selector; a `plan`, in the place of `algos`, or the file of one, gives each convolution the
    algorithms that it has there, and raises ai3.errors.PlanError where it is for another network.
    """
    backend = _torch_backend(module)
    if plan is not None:
        _refuse_both(algos)
        algos = backend.selector_of(module, plan)
    kinds = {"conv2d": algos}
    backend.swap(module, kinds, sample_input_shape, unsupported, swap_with, memory)


def restore(module: "torch.nn.Module") -> None:
    """Put the original modules back where `swap` or `swap_conv2d` has swapped them, in place.

    Their parameters and hooks are what they are now: what was trained stays trained.
    """
    _torch_backend(module).restore(module)


def freeze(module: "torch.nn.Module") -> None:
    """Promise that the weights of swapped modules change only in ways that torch counts.

    Algorithms compute with copies of a weight. At each call the whole weight is compared with what
    was copied, by a checksum, so that no change is missed; after this call it is not. A step of an
    optimizer, `load_state_dict`, another parameter and other memory are noticed all the same; a
    write through `.data`, NumPy or another process into the same memory is not, nor is any into
    parameters that were made in inference mode. Copies and pickles of the network are frozen too.
    `unfreeze`, `swap`, `swap_conv2d` and `restore` take the promise back.
    """
    _torch_backend(module).freeze(module, True)


def unfreeze(module: "torch.nn.Module") -> None:
    """Look for changes of the weights at each call again, see `freeze`."""
    _torch_backend(module).freeze(module, False)


def swapped(module: "torch.nn.Module") -> "list[SwappedModule]":
    """The convolutions of images of a network, and its modules of any other kind of which one is
    swapped, as (name, algorithm, why, grad_input, grad_weight).

    The algorithm is None for those that `swap` left alone, and `why` is the reason.
    """
    found: list[SwappedModule] = _torch_backend(module).swapped(module)
    return found


def swap_backend(
    module: "torch.nn.Module",
    algos: Mapping[str, AlgorithmicSelector] | None = None,
    sample_input_shape: "Sequence[Any] | torch.Tensor | None" = None,
    *,
    dtype: Any = None,
    unsupported: str = "raise",
    precision: str = "float32",
    memory: int | None = None,
    plan: "Plan | str | PathLike[str] | None" = None,
) -> Model:
    """Convert a network into a `Model` that the framework runs, for inference.

    Weights are copied; the network is not changed.

    Args:
        module: the network.
        algos: for each operation, by its name in `SUPPORTED_ALGORITHMS`, how its algorithm is
            selected, see `AlgorithmicSelector`; an operation without an entry takes "default". Or
            what `tune` gave, whose plan is then used.
        sample_input_shape: shape of the network's input, (N, C, H, W) or unbatched, or an array
            like it, which tells its dtype too, or a sequence of these for several inputs: for
            selectors that ask for the shape of each module's input, and for torch.export, by which
            networks are traced that torch.fx cannot: for any sizes where it can find out in some
            seconds that they may change, else for any N, else for this shape alone. The model is
            planned for it. An input of which only the shape is known may be integers where the
            network looks them up, compares or converts them.
        dtype: float32 or float64, to convert the weights to; None keeps them.
        unsupported: as for `swap`; or "torch": what the framework does not have runs in
            torch inside the model, all of a network that cannot be traced, but for convolutions.
        precision: "bfloat16" permits that values of float32, weights too, are rounded to it
            wherever that is estimated to be faster; sums are float32 all the same, and so are the
            network's inputs and outputs. With "float32" nothing is, but by algorithms whose names
            say so, as "direct bf16" does.
        memory: of a network on a device, the bytes that the workspace of a layer may have, as for
            `swap`.

    Raises:
        ai3.errors.PlanError: a plan of another network; it says where they differ.
        ai3.errors.UnsupportedCallableError: operations that the framework does not have; all of
            them are listed.
        ai3.errors.UntraceableError: no graph of the network was found.
        ai3.errors.SampleError: an input of the sample's shape does not go through the network.
        Also what `swap` raises.
    """
    backend = _torch_backend(module)
    if isinstance(algos, Tuned):  # without a plan it does not convert
        plan, algos = algos.plan, None
    if plan is not None:
        _refuse_both(algos)
        plan = taken(plan)
        precision = plan.precision
        if sample_input_shape is None and len(plan.parts) == 1:
            sample_input_shape = [spec.shape for spec in plan.parts[0].inputs]
    model: Model = backend.swap_backend(
        module, algos, sample_input_shape, dtype, unsupported, precision, memory
    )
    if plan is not None:
        model.use(plan)
    return model


def load(
    path: "str | PathLike[str]",
    *,
    unsupported: str = "raise",
    plan: "Plan | str | PathLike[str] | None" = None,
) -> Model:
    """The model that `Model.save` wrote to a file. torch is not imported, no code of the file runs.

    Args:
        unsupported: the algorithm of layers that ran one which is not registered now; by default
            such a file is refused.
        plan: as for `swap_backend`.

    Raises:
        ai3.errors.PlanError: a plan of another network.
        ai3.errors.FileError: a file that is damaged, that `Model.save` did not write, or that names
            algorithms which are not registered.
    """
    model = Model.from_graph(*file.load(path, unsupported))
    if plan is not None:
        model.use(plan)
    return model


def explain(
    network: "Model | torch.nn.Module", *inputs: Any, repeat: int = 5, errors: bool = True
) -> "Explanation":
    """What each layer takes, which of the machine's limits it meets, how far it is from float64,
    the memory it adds, and what other algorithms would take, or why they cannot do it.

    Args:
        network: a `Model`, or a torch network of which modules are swapped, which is not changed.
        inputs: for the network.
        repeat: how many runs the times are medians of.
        errors: whether to compute all in float64 too, which takes some times as long.

    Returns:
        The figures: print them, index them by a layer's name for all that is known of it, or take
        their `json()`, `chart(path)` (PNG, needs matplotlib) or `html(path)`.

    Raises:
        ValueError: no module of the network is swapped, or inputs that it does not take.
    """
    if isinstance(network, Model):
        return network.explain(*inputs, repeat=repeat, errors=errors)
    _torch_backend(network)
    from ai3.torch.explain import explain as of_modules

    return of_modules(network, inputs, repeat, errors)


def validate(
    op: str,
    algorithm: str,
    *,
    file: "str | PathLike[str] | None" = None,
    seconds: float = 90.0,
    examples: int = 500,
    seed: int = 0,
    tolerance: float | None = None,
    bench: "Sequence[str]" = (),
) -> "Validation":
    """Try an algorithm with everything that it claims to do, against the operation's reference in
    double precision: named cases and random ones, float32 and float64, one thread, two and more
    than there are processors, every layout of images, arrays that are not dense, NaN and infinity.

    It runs in a process of its own, on memory that is watched: a crash, a run that does not end, a
    write beyond output and workspace, and a result that depends on what was there before are found
    as wrong results are.

    Args:
        op: the operation, a name in `SUPPORTED_ALGORITHMS`.
        algorithm: its name.
        file: the C++ or Python file that has it, where it was not added yet.
        seconds: after which no more cases are begun; those left are counted.
        examples: how many random cases.
        seed: of the random cases: the same give the same.
        tolerance: how many times the error may be that of a plain sum of as many terms, by default
            what is known of ai3's own algorithms and 32 for others.
        bench: sets of convolutions, such as "resnet18" (`ai3 validate --help` lists them), or
            "named", an operation's named cases: where nothing is wrong, the speed beside ai3's own
            algorithms is measured over these.

    Returns:
        The counts, the reasons of refusals, for each fault the smallest case as a line of code, the
        errors beside those of "direct"; printed, a report; `ok` tells whether nothing was wrong and
        something was right. `chart` draws the speeds.

    Raises:
        ValueError: no such operation, algorithm or set. Also what `load_algorithm` raises.
    """
    from ai3.validation import validate as by

    return by.validate(
        op,
        algorithm,
        file=file,
        seconds=seconds,
        examples=examples,
        seed=seed,
        tolerance=tolerance,
        bench=bench,
    )


def check(
    op: str,
    algorithm: str,
    inputs: "Sequence[Sequence[int]]",
    weights: "Sequence[Sequence[int] | None]" = (),
    **how: Any,
) -> "Outcome":
    """Try an algorithm with one case, as the lines do that `validate` prints.

    Args:
        op: the operation.
        algorithm: its name.
        inputs: the inputs' shapes.
        weights: the weights' shapes; None for an absent one.
        how: the operation's attributes; and dtype ("float32"), threads (1), input_layout ("dense")
            of images, output_layout, values ("random", or "special" with NaN and infinity among
            them), strides (None, "transposed", "every second" or "reversed") of arrays that are not
            dense, seed (0) of the values, file and tolerance as `validate` takes them, and isolated
            (True): whether it runs in a process of its own, or in this one, for a debugger.

    Returns:
        The outcome, right or refused, with its error.

    Raises:
        ai3.errors.WrongResultError: what is wrong, and where.
        ValueError: no such operation or algorithm, or what is no problem of the operation.
    """
    from ai3.validation import validate as by

    return by.check(op, algorithm, inputs, weights, **how)


def _refuse_both(algos: object) -> None:
    if algos is not None:
        raise ValueError("give algos or a plan, not both: a plan says all that algos may")


def _torch_backend(module: object) -> Any:
    if FROM_BACKEND not in (None, "torch"):
        raise ValueError(f"FROM_BACKEND must be 'torch' or None, not {FROM_BACKEND!r}")
    if not any(kind.__module__.split(".")[0] == "torch" for kind in type(module).__mro__):
        raise TypeError(f"expected a torch.nn.Module, not {type(module).__name__}")
    from ai3.torch import swap

    return swap


def using_sycl() -> bool:
    """Whether the implementations can use SYCL: on Intel's GPUs, or on this computer's processor
    through an OpenCL runtime."""
    return is_available("sycl")


def using_cudnn() -> bool:
    """Whether the implementations can use cuDNN."""
    return is_available("cuda", "cudnn")


def using_cublas() -> bool:
    """Whether the implementations can use cuBLAS."""
    return is_available("cuda", "cublas")


def using_mps_and_metal() -> bool:
    """Whether the implementations can use MPS and Metal."""
    return is_available("mps", "metal")


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for."""
    if name == "SUPPORTED_ALGORITHMS":
        return supported()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_core.measure_by(tuning.opened)
sycl.add_to_core()
algorithms.load_installed()
