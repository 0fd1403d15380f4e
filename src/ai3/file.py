"""A model in one file: its weights as safetensors, its graph as JSON in their metadata."""

import inspect
import json
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from typing import Any

import numpy as np

from ai3.arrays import Bfloat16Array, of_bits
from ai3.errors import FileError, unknown_name
from ai3.graph import Expression, Graph, Node, Plain, Record, Weight
from ai3.graph.expression import ARRAYS, FUNCTIONS, TAKE_TEXT, reads
from ai3.graph.graph import CONSTANT, FOREIGN, KINDS, NARROW_WEIGHTS, PRECISIONS
from ai3.ops import ON_CPU, OPERATIONS, REQUIRED, Operation
from ai3.selector import check_algorithm

FORMAT = 1
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
KEY = "ai3"

Arrays = Mapping[str, "np.ndarray[Any, Any] | Bfloat16Array"]


def save(
    graph: Graph, unsupported: str, path: str | PathLike[str], precision: str | None = None
) -> None:
    """Weights of float32 are rounded where the precision is "bfloat16"; by default it is where
    that changes nothing. Raises ValueError for a graph of which torch runs some nodes, and for
    another precision."""
    from safetensors.numpy import save_file

    if precision not in (None, *PRECISIONS):
        raise unknown_name("precision", precision, PRECISIONS)
    rounded = graph.narrow if precision is None else precision == "bfloat16"
    held = (weight for node in graph.nodes for weight in node.weights if node.op != CONSTANT)
    if rounded and any(weight is not None and weight.dtype == np.float64 for weight in held):
        raise ValueError("weights of float64 are not rounded to bfloat16: convert them to float32")
    foreign = [node.label for node in graph.nodes if node.op == FOREIGN]
    if foreign:
        raise ValueError(
            f"a model that runs {', '.join(foreign)} in torch cannot be saved to a file that is "
            "read without torch; pickle it instead"
        )
    names: dict[int, str] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    bits: list[str] = []
    nodes = []
    for node in graph.nodes:
        keys: list[str | None] = []
        for i, weight in enumerate(node.weights):
            if weight is None:
                keys.append(None)
                continue
            if id(weight) not in names:
                names[id(weight)] = f"{node.name}.{i}"
                array: Any = weight
                if rounded and array.dtype == np.float32 and node.op != CONSTANT:
                    narrow = Bfloat16Array.rounded(array)
                    if precision or np.array_equal(narrow, array, equal_nan=True):
                        array = narrow
                if rounded and isinstance(array, Bfloat16Array):
                    array = array.bits
                    bits.append(names[id(weight)])
                arrays[names[id(weight)]] = np.ascontiguousarray(array).reshape(weight.shape)
            keys.append(names[id(weight)])
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "inputs": node.inputs,
                "attributes": {key: _encode(value) for key, value in node.attributes.items()},
                "weights": keys,
                "module": node.module,
                "algorithm": node.algorithm,
            }
        )
    document = {
        "format": FORMAT,
        "inputs": graph.inputs,
        "nodes": nodes,
        "outputs": graph.outputs,
        "structure": _encode_structure(graph.structure),
        "checks": _encode(graph.checks),
        "takes": dict(graph.takes),
        "precision": graph.precision,
        "narrow": graph.narrow,
        "bfloat16": bits,
        "unsupported": unsupported,
    }
    save_file(arrays, path, {KEY: json.dumps(document)})


def load(path: str | PathLike[str], instead: str = "raise") -> tuple[Graph, str]:
    """The graph that `save` wrote and its `unsupported`; `instead` is the algorithm of nodes whose
    own is not known. Raises FileError, runs no code."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            text = (opened.metadata() or {}).get(KEY)
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise FileError(path, f"it is no safetensors file, or damaged: {error}") from None
    if text is None:
        raise FileError(path, "it holds weights, but no graph: Model.save did not write it")
    try:
        document = json.loads(text)
        narrow = {name: _of_bits(arrays.pop(name)) for name in document.get("bfloat16", ())}
        strange = [name for name, array in arrays.items() if array.dtype.name not in DTYPES]
        if strange:
            raise _Damage(f"its weight {strange[0]!r} is {arrays[strange[0]].dtype.name}")
        return _with_known(*_decode_document(document, {**arrays, **narrow}), instead)
    except _Damage as error:
        raise FileError(path, str(error)) from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise FileError(path, f"its graph is damaged: {error!r}") from None


def _of_bits(bits: "np.ndarray[Any, Any]") -> Bfloat16Array:
    if bits.dtype != np.uint16:
        raise _Damage(f"a weight of bfloat16 is held as {bits.dtype.name}, not as uint16")
    return Bfloat16Array(of_bits(bits))


@dataclass(frozen=True)
class NamedTuple:
    """Makes named tuples of this type: what a loaded model gives for any record, as the network's
    own class may not exist."""

    name: str
    fields: tuple[str, ...]

    def __call__(self, **values: Any) -> Any:
        return namedtuple(self.name, self.fields)(**values)


class _Damage(Exception):
    """What is wrong with a document."""


def _decode_document(document: Any, arrays: Arrays) -> tuple[Graph, str]:
    if document["format"] != FORMAT:
        raise _Damage(f"it is of format {document['format']!r}; this ai3 reads format {FORMAT}")
    inputs = tuple(_text(name) for name in document["inputs"])
    narrow = document.get("narrow", False)
    if not isinstance(narrow, bool):
        raise _Damage(f"it says narrow={narrow!r}")
    known = set(inputs)
    nodes = []
    wide: dict[str, np.ndarray[Any, Any]] = {}

    def held(key: str, op: str) -> Weight:
        array = arrays[key]
        if not isinstance(array, Bfloat16Array):
            return array
        if narrow and op in NARROW_WEIGHTS and array.ndim > 1:
            return array
        if key not in wide:
            wide[key] = np.asarray(array)
        return wide[key]

    for entry in document["nodes"]:
        node = _decode_node(entry, arrays, held)
        read = (*node.inputs, *reads(tuple(node.attributes.values())))
        unknown = [name for name in read if name not in known]
        if unknown or node.name in known:
            raise _Damage(f"its node {node.name!r} does not fit: {unknown or 'the name is taken'}")
        known.add(node.name)
        nodes.append(node)
    outputs = tuple(_text(name) for name in document["outputs"])
    if not known.issuperset(outputs):
        raise _Damage("it has outputs that no node makes")
    checks = tuple(_decode(check) for check in document["checks"])
    if not all(isinstance(check, Expression) for check in checks):
        raise _Damage("it has a check that is no expression")
    if not known.issuperset(reads(checks)):
        raise _Damage("it checks the shape of a value that no node makes")
    takes = {_text(name): _text(kind) for name, kind in document.get("takes", {}).items()}
    if not takes.keys() <= set(inputs) or not set(takes.values()) <= set(KINDS.values()):
        raise _Damage(f"it takes {takes} for inputs")
    structure = _decode_structure(document["structure"], len(outputs))
    unsupported = _text(document["unsupported"])
    precision = _text(document.get("precision", "float32"))
    if precision not in PRECISIONS:
        raise _Damage(f"its precision is {precision!r}")
    graph = Graph(inputs, tuple(nodes), outputs, structure, checks, {}, takes, precision, narrow)
    return graph, unsupported


def _with_known(graph: Graph, unsupported: str, instead: str) -> tuple[Graph, str]:
    """The graph with algorithms that there are."""
    names = {name for algorithms in ON_CPU.values() for name in algorithms}
    if unsupported not in {"raise", *names}:
        if instead == "raise":
            raise _Damage(f"it has unsupported={unsupported!r}, which this ai3 does not know")
        unsupported = instead
    unknown = {
        node.name: (node.algorithm, node.op)
        for node in graph.nodes
        if node.op != CONSTANT and node.algorithm not in ON_CPU[node.op]
    }
    if unknown and instead == "raise":
        missing = ", ".join(f"{name!r} of {op}" for name, op in sorted(set(unknown.values())))
        raise _Damage(
            f"its layers {', '.join(unknown)} run algorithms that this ai3 does not know: "
            f"{missing}. Register them before it is loaded, or name one to use instead with "
            "unsupported='default'"
        )
    for node in unknown:
        check_algorithm(unknown[node][1], instead, " for unsupported=")
    return graph.with_algorithms(dict.fromkeys(unknown, instead)), unsupported


_CONSTANT_ATTRIBUTES = ("value", "dtype")
_LARGEST = 1 << 62


def _decode_node(entry: Any, arrays: Arrays, held: Callable[[str, str], Weight]) -> Node:
    op, algorithm = _text(entry["op"]), _text(entry["algorithm"])
    if op != CONSTANT and op not in OPERATIONS:
        raise _Damage(f"it has the operation {op!r}, which this ai3 does not know")
    for key in entry["weights"]:
        if key is not None and key not in arrays:
            raise _Damage(f"the weight {key!r} is missing")
    attributes = {_text(key): _decode(value) for key, value in entry["attributes"].items()}
    row = OPERATIONS.get(op)
    known = _CONSTANT_ATTRIBUTES if row is None else row.attributes
    unknown = [name for name in attributes if name not in known]
    if unknown:
        raise _Damage(f"its {op} has the attribute {unknown[0]!r}, which there is none of")
    if row is None:
        _check_constant(entry, attributes)
    else:
        _check_counts(entry, attributes, row)
        optional = {k: v for k, v in row.attributes.items() if v is not REQUIRED}
        given = {k: v for k, v in optional.items() if k != "inplace" and k not in row.fixed}
        attributes = {**given, **attributes}
    return Node(
        name=_text(entry["name"]),
        op=op,
        inputs=tuple(_text(name) for name in entry["inputs"]),
        attributes=attributes,
        weights=tuple(None if key is None else held(key, op) for key in entry["weights"]),
        module=_text(entry["module"]),
        algorithm=algorithm,
    )


def _check_constant(entry: Any, attributes: Mapping[str, Any]) -> None:
    if entry["inputs"] or len(entry["weights"]) != ("value" not in attributes):
        raise _Damage("it has a constant that is not one array or one expression")
    if attributes.get("dtype", "float32") not in DTYPES:
        raise _Damage(f"it has a constant of {attributes['dtype']!r}")


def _check_counts(entry: Any, attributes: Mapping[str, Any], row: Operation) -> None:
    given = len(entry["inputs"])
    if given != row.inputs and (row.inputs >= 0 or not given):
        raise _Damage(f"its {row.name} has {given} inputs")
    if len(entry["weights"]) > len(row.weights):
        raise _Damage(f"its {row.name} has {len(entry['weights'])} weights")
    for name, default in row.attributes.items():
        if default is REQUIRED and attributes.get(name) is None:
            raise _Damage(f"its {row.name} has no {name}")


def _encode(item: Any) -> Any:
    if isinstance(item, Expression):
        return {"function": item.function, "arguments": _encode(item.arguments)}
    if isinstance(item, slice):
        return {"function": "slice", "arguments": _encode((item.start, item.stop, item.step))}
    if isinstance(item, tuple | list):
        return [_encode(part) for part in item]
    if item is None or isinstance(item, bool | int | float | str):
        return item
    raise ValueError(f"an attribute of type {type(item).__name__} cannot be saved")


def _decode(item: Any) -> Any:
    if isinstance(item, dict):
        if item.keys() != {"function", "arguments"} or not isinstance(item["arguments"], list):
            raise _Damage(f"{str(item)[:80]} is no expression")
        function, arguments = item["function"], tuple(map(_decode, item["arguments"]))
        if function == "shape":
            if len(arguments) != 1 or not isinstance(arguments[0], str):
                raise _Damage("it asks for the shape of what is no value")
        elif not isinstance(function, str) or function not in FUNCTIONS:
            raise _Damage(f"it has the function {function!r}, which this ai3 does not know")
        elif not _takes(function, len(arguments)):
            raise _Damage(f"it has the function {function!r} of {len(arguments)} arguments")
        elif function not in TAKE_TEXT and any(isinstance(a, str) for a in _flat(arguments)):
            raise _Damage(f"it has the function {function!r} of a text")
        elif any(isinstance(a, Expression) and a.function in ARRAYS for a in _flat(arguments)):
            raise _Damage(f"it has the function {function!r} of an array")
        return Expression(function, arguments)
    if isinstance(item, int) and abs(item) >= _LARGEST:
        raise _Damage(f"its number {str(item)[:40]} is too large")
    return tuple(map(_decode, item)) if isinstance(item, list) else item


def _flat(items: tuple[Any, ...]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, tuple):
            yield from _flat(item)
        else:
            yield item


@cache
def _takes(function: str, count: int) -> bool:
    """Whether a function of expressions may have so many arguments."""
    try:
        inspect.signature(FUNCTIONS[function]).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # one of Python's own that does not say
        return True
    return True


def _encode_structure(item: Any) -> Any:
    if item is None or isinstance(item, int):
        return item
    if isinstance(item, Plain):
        return {"kind": "plain", "value": item.value}
    if isinstance(item, Record):
        title = getattr(item.make, "__name__", getattr(item.make, "name", ""))
        parts = [[name, _encode_structure(part)] for name, part in item.fields]
        return {"kind": "record", "name": title, "parts": parts}
    if isinstance(item, dict):
        parts = [[key, _encode_structure(part)] for key, part in item.items()]
        return {"kind": "dict", "parts": parts}
    return {"kind": type(item).__name__, "parts": [_encode_structure(part) for part in item]}


def _decode_structure(item: Any, count: int) -> Any:
    if item is None:
        return None
    if isinstance(item, int):
        if not 0 <= item < count:
            raise _Damage(f"it has no output {item}")
        return item
    if item["kind"] == "plain":
        if not isinstance(item["value"], bool | int | float | str | None):
            raise _Damage(f"it gives {item['value']!r}")
        return Plain(item["value"])
    parts = item["parts"]
    if item["kind"] == "dict":
        return {key: _decode_structure(part, count) for key, part in parts}
    if item["kind"] in ("tuple", "list"):
        made = [_decode_structure(part, count) for part in parts]
        return made if item["kind"] == "list" else tuple(made)
    names = [_text(name) for name, _ in parts]
    make = NamedTuple(_text(item["name"]), tuple(names))
    make(**dict.fromkeys(names))
    return Record(make, tuple((name, _decode_structure(part, count)) for name, part in parts))


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise _Damage(f"its graph is damaged: {item!r} is no text")
    return item
