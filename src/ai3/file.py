"""A model in one file: its weights as safetensors, its graph as JSON in their metadata."""

import json
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from ai3.errors import FileError
from ai3.graph import Expression, Graph, Node, Plain, Record
from ai3.graph.expression import FUNCTIONS
from ai3.graph.graph import CONSTANT, FOREIGN
from ai3.ops import OPERATIONS, SUPPORTED_ALGORITHMS

FORMAT = 1
KEY = "ai3"

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def save(graph: Graph, unsupported: str, path: str | PathLike[str]) -> None:
    """Raises ValueError for a graph of which torch runs some nodes."""
    from safetensors.numpy import save_file

    foreign = [node.label for node in graph.nodes if node.op == FOREIGN]
    if foreign:
        raise ValueError(
            f"a model that runs {', '.join(foreign)} in torch cannot be saved to a file that is "
            "read without torch; pickle it instead"
        )
    names: dict[int, str] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    nodes = []
    for node in graph.nodes:
        keys: list[str | None] = []
        for i, weight in enumerate(node.weights):
            if weight is None:
                keys.append(None)
                continue
            if id(weight) not in names:
                names[id(weight)] = f"{node.name}.{i}"
                arrays[names[id(weight)]] = np.ascontiguousarray(weight).reshape(weight.shape)
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
        "unsupported": unsupported,
    }
    save_file(arrays, path, {KEY: json.dumps(document)})


def load(path: str | PathLike[str]) -> tuple[Graph, str]:
    """The graph that `save` wrote and its `unsupported`. Raises FileError, runs no code."""
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
        return _decode_document(json.loads(text), arrays)
    except _Damage as error:
        raise FileError(path, str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(path, f"its graph is damaged: {error!r}") from None


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
    known = set(inputs)
    nodes = []
    for entry in document["nodes"]:
        node = _decode_node(entry, arrays)
        unknown = [name for name in node.inputs if name not in known]
        if unknown or node.name in known:
            raise _Damage(f"its node {node.name!r} does not fit: {unknown or 'the name is taken'}")
        known.add(node.name)
        nodes.append(node)
    outputs = tuple(_text(name) for name in document["outputs"])
    if not known.issuperset(outputs):
        raise _Damage("it has outputs that no node makes")
    checks = tuple(_decode(check) for check in document["checks"])
    structure = _decode_structure(document["structure"], len(outputs))
    graph = Graph(inputs, tuple(nodes), outputs, structure, checks)
    return graph, _text(document["unsupported"])


def _decode_node(entry: Any, arrays: Arrays) -> Node:
    op, algorithm = _text(entry["op"]), _text(entry["algorithm"])
    if op != CONSTANT and op not in OPERATIONS:
        raise _Damage(f"it has the operation {op!r}, which this ai3 does not know")
    if op != CONSTANT and algorithm not in SUPPORTED_ALGORITHMS[op]:
        raise _Damage(f"it has the algorithm {algorithm!r} of {op}, which this ai3 does not know")
    for key in entry["weights"]:
        if key is not None and key not in arrays:
            raise _Damage(f"the weight {key!r} is missing")
    return Node(
        name=_text(entry["name"]),
        op=op,
        inputs=tuple(_text(name) for name in entry["inputs"]),
        attributes={_text(key): _decode(value) for key, value in entry["attributes"].items()},
        weights=tuple(None if key is None else arrays[key] for key in entry["weights"]),
        module=_text(entry["module"]),
        algorithm=algorithm,
    )


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
        function, arguments = item["function"], tuple(map(_decode, item["arguments"]))
        if function != "shape" and function not in FUNCTIONS:
            raise _Damage(f"it has the function {function!r}, which this ai3 does not know")
        return Expression(function, arguments)
    return tuple(map(_decode, item)) if isinstance(item, list) else item


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
