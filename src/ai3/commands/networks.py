"""NETWORK, as commands take it: what it names, and inputs for it."""

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

import ai3

Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        show_default=False,
        help="A file that Model.save wrote; PACKAGE.MODULE:FUNCTION, a function without arguments "
        "that makes a network, or a tuple of that and its inputs; or a name of torchvision or "
        "timm, such as resnet18, where those are installed.",
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="1x3x224x224",
        help="Of the network's input, which is then random; once for each of several inputs. "
        "Known where torchvision or timm tell it.",
    ),
]
Batch = Annotated[int | None, typer.Option(min=1, metavar="N", help="How many images at a time.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many threads compute; torch's number by default."),
]
Pretrained = Annotated[
    bool,
    typer.Option("--pretrained", help="Download trained weights; they are random otherwise."),
]
Algorithms = Annotated[
    list[str] | None,
    typer.Option(
        "--algorithm",
        metavar="conv2d=winograd",
        help="The algorithm of an operation; several times for several operations. What cannot be "
        'done by it is done by "default".',
    ),
]
Chosen = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Run exactly what a plan says that `ai3 tune --plan` or Plan.save wrote.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="float32|bfloat16",
        help="bfloat16 permits to round values to it where that is faster.",
    ),
]

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class Loaded:
    """A network, a torch one or an `ai3.Model`, with inputs for it."""

    name: str
    network: Any
    inputs: tuple[Any, ...]

    def model(
        self,
        algorithms: Sequence[str] | None = None,
        precision: str = "float32",
        plan: Path | None = None,
    ) -> Any:
        """The network as an `ai3.Model`, its operations done as the options say."""
        if plan is not None and (algorithms or precision != "float32"):
            raise ValueError("--plan says it all: --algorithm and --precision do not go with it")
        if isinstance(self.network, ai3.Model):
            if plan is not None:
                self.network.use(plan)
            if algorithms or precision != "float32":
                raise ValueError(
                    f"{self.name} is a model that was saved with its algorithms: --algorithm and "
                    "--precision are for networks of torch"
                )
            return self.network
        return ai3.swap_backend(
            self.network,
            None if plan else selectors(algorithms),
            list(self.inputs) if len(self.inputs) > 1 else self.inputs[0],
            precision=precision,
            unsupported="default",
            plan=plan,
        )


def load(
    text: str,
    shapes: Sequence[str] | None = None,
    batch: int | None = None,
    pretrained: bool = False,
) -> Loaded:
    """What NETWORK names. Raises ValueError where it names nothing, or its inputs are unknown."""
    if text.endswith(".py") or (not Path(text).is_file() and _FUNCTION.fullmatch(text)):
        found = _made_by(text)
    elif Path(text).is_file():
        found = Loaded(text, ai3.load(text), ())
    else:
        found = _of_a_library(text, pretrained)
    return replace(found, inputs=_inputs(found, shapes, batch))


def selectors(algorithms: Sequence[str] | None) -> dict[str, str]:
    """{"conv2d": "winograd"} of ["conv2d=winograd"]."""
    found = {}
    for text in algorithms or ():
        op, equals, name = text.partition("=")
        if not equals:
            raise ValueError(
                f"--algorithm is OPERATION=NAME, such as conv2d=winograd, not {text!r}"
            )
        found[op.strip()] = name.strip()
    return found


def swap_conv2d(network: Any, algorithms: Sequence[str] | None, plan: Path | None) -> None:
    """In place, as the options say."""
    conv2d = None if plan else selectors(algorithms).get("conv2d")
    ai3.swap_conv2d(network, conv2d, unsupported="default", plan=plan)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


_FUNCTION = re.compile(r"[\w.]+:[\w.]+")


def _made_by(text: str) -> Loaded:
    """The result of PACKAGE.MODULE:FUNCTION, looked for where the program was started too."""
    module, colon, function = text.partition(":")
    if not colon:
        raise ValueError(f"{text} is no network: name the function in it, as {text[:-3]}:make")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = importlib.import_module(module)
        for part in function.split("."):
            made = getattr(made, part)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{text} names no network: there is no module {error.name!r}, here or installed"
        ) from None
    except AttributeError as error:
        raise ValueError(f"{text} names no network: {error}") from None
    result = made() if not hasattr(made, "forward") or isinstance(made, type) else made
    network, *inputs = result if isinstance(result, tuple) else (result,)
    if not isinstance(network, ai3.Model) and not hasattr(network, "forward"):
        raise ValueError(
            f"{text} makes a {type(network).__name__}, not a torch.nn.Module or an ai3.Model"
        )
    if hasattr(network, "eval"):
        network.eval()
    if len(inputs) == 1 and isinstance(inputs[0], tuple | list):
        inputs = list(inputs[0])
    return Loaded(text, network, tuple(inputs))


def _of_a_library(text: str, pretrained: bool) -> Loaded:
    wanted, slash, name = text.partition("/")
    libraries = [wanted] if slash and wanted in LIBRARIES else list(LIBRARIES)
    name = name if len(libraries) == 1 else text
    known: dict[str, list[str]] = {}
    absent = []
    for library in libraries:
        try:
            names, make = _LIBRARIES[library]()
        except ImportError:
            absent.append(f"{library} is not installed")
            continue
        except RuntimeError as error:  # of operators that do not fit the installed torch
            absent.append(f"{library} cannot be imported ({error})")
            continue
        if name in names:
            network, shape = make(name, pretrained)
            return Loaded(text, network.eval(), (shape,))
        known[library] = list(names)
    near = [
        close
        for names in known.values()
        for close in get_close_matches(name, names, n=3, cutoff=0.7)
    ]
    what = f"nor a network of {' or '.join(known)}" if known else "nor one of a library"
    hint = f"; near: {', '.join(dict.fromkeys(near))}" if near else ""
    why = f" ({'; '.join(absent)})" if absent else ""
    raise ValueError(
        f"there is no network {text!r}: it is neither a file, nor a function as "
        f"package.module:function, {what}{hint}{why}"
    )


Make = Callable[[str, bool], tuple[Any, tuple[int, ...]]]


def _torchvision() -> tuple[Sequence[str], Make]:
    from torchvision import models

    def make(name: str, pretrained: bool) -> tuple[Any, tuple[int, ...]]:
        weights = models.get_model_weights(name).DEFAULT
        size = getattr(weights.transforms(), "crop_size", None) or weights.transforms().resize_size
        options: dict[str, Any] = {"weights": weights if pretrained else None}
        if not pretrained and name in ("googlenet", "inception_v3"):
            options["init_weights"] = False  # torchvision's initialisation of these takes minutes
        if not pretrained and name in models.list_models(module=models.segmentation):
            options["weights_backbone"] = None
        return models.get_model(name, **options), (1, 3, size[0], size[0])

    usable = (models, models.segmentation)
    names = [name for module in usable for name in models.list_models(module=module)]
    return names, make


def _timm() -> tuple[Sequence[str], Make]:
    import timm

    def make(name: str, pretrained: bool) -> tuple[Any, tuple[int, ...]]:
        network: Any = timm.create_model(name, pretrained=pretrained)
        return network, (1, *network.pretrained_cfg.get("input_size", (3, 224, 224)))

    return timm.list_models(), make


_LIBRARIES: dict[str, Callable[[], tuple[Sequence[str], Make]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}


def _inputs(found: Loaded, texts: Sequence[str] | None, batch: int | None) -> tuple[Any, ...]:
    """Random inputs of the shapes that were given or are known, or those that came along."""
    given = [_shape(text) for text in texts or ()] or list(found.inputs)
    if not given:
        raise ValueError(
            f"of {found.name} it is not known what it takes: say it with --shape, "
            "such as --shape 1x3x224x224"
        )
    return tuple(_input(each, batch, found) for each in given)


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise ValueError(
            f"--shape is numbers with x between them, such as 1x3x224x224, not {text!r}"
        )
    return tuple(int(part) for part in re.split("[x,]", text))


def _input(given: Any, batch: int | None, found: Loaded) -> Any:
    if not isinstance(given, tuple):
        if batch is not None:
            raise ValueError(f"{found.name} brings its own inputs: --batch does not apply")
        return given
    shape = given if batch is None else (batch, *given[1:])
    if isinstance(found.network, ai3.Model):
        import numpy as np

        return np.random.default_rng(0).standard_normal(shape, np.float32)
    import torch

    dtype = next((p.dtype for p in found.network.parameters() if p.is_floating_point()), None)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
