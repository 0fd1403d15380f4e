"""Files that somebody has changed: each loads, or is refused at once."""

import contextlib
import copy
import json
import math
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3.errors import FileError
from test.test_file import rewrite


class Net(nn.Module):
    """Whose graph has expressions of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv2d(3, 4, 3), nn.LSTM(4, 4, batch_first=True)
        self.volume = nn.Conv1d(4, 4, 3)

    def forward(self, x: Tensor) -> Any:
        y = F.pad(self.conv(x), (0, x.shape[3] % 2))
        y = F.interpolate(y, size=(x.shape[2] // 2, x.shape[3]), mode="bilinear")
        z = y + torch.arange(y.shape[3]) + torch.zeros(1, 4, 1, y.shape[3])
        rows = z.flatten(2).transpose(1, 2)
        steps, (h, _) = self.lstm(rows)
        parts = F.unfold(z, 2).chunk(2, 1)
        pooled = F.adaptive_max_pool2d(self.volume(rows.mT)[:, :, None], (1, 3))
        return {"z": z.tril(), "more": (steps, [h, None]), "parts": parts, "pooled": pooled}


STRANGE: list[Any] = [
    *(None, True, -1, 0, 1, 3, 2**31, 2**61, 2**63, 10**30, 0.5, 1e308, math.nan, "", "x", "shape"),
    *([], [1], [[[]]], {}, {"function": "mul"}, ["x"] * 5, "float32", "conv2d", "relu"),
    {"function": "mul", "arguments": [[1, 2, 3], 100_000_000]},
    {"function": "mul", "arguments": [100_000_000, "text"]},
    {"function": "full", "arguments": [[1_000_000, 1_000_000], 1.0]},
    {"function": "pow", "arguments": [10, 1_000_000]},
    {"function": "shape", "arguments": ["nobody"]},
    *(
        {"function": name, "arguments": [10**12, *more]}
        for name, more in [
            *[("arange", []), ("eye", []), ("reversed", []), ("each repeated", [1])],
            *[
                ("tri", [10**6, 0]),
                ("windows", [1, 1]),
                ("bins", [10**9]),
                ("linspace", [1, 10**9]),
            ],
            *[("put", [0, None, 1]), ("planes", [[0, 1]]), ("swapped", [0, 1])],
        ]
    ),
]


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container in a document with every key in it."""

    def inside(item: Any) -> Iterator[tuple[Any, Any]]:
        keys = (
            item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        )
        for key in keys:
            yield item, key
            yield from inside(item[key])

    return list(inside(document))


def mutate(document: Any, choose: random.Random) -> None:
    found = places(document)
    holder, key = choose.choice(found)
    kind = choose.randrange(4)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = choose.choice(found)
        holder[key] = copy.deepcopy(other[place])
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(choose.choice(STRANGE))


def peak() -> int:
    """KiB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check(path: Path, arrays: Any, document: Any, x: Tensor) -> bool:
    """Whether the document loads; if it does, that planning for it says what is wrong with it."""
    save_file(arrays, path, {"ai3": json.dumps(document)})
    started = time.process_time()
    try:
        model = ai3.load(path)
    except FileError:
        model = None
    assert time.process_time() - started < 1, document
    if model is None:
        return False
    with contextlib.suppress(ValueError, TypeError):
        model.prepare(*[x] * len(model.graph.inputs))
    assert time.process_time() - started < 2, document
    return True


@pytest.mark.parametrize(
    "share", [*range(2), *(pytest.param(i, marks=pytest.mark.thorough) for i in range(2, 20))]
)
def test_changed_graphs(share: int, tmp_path: Path) -> None:
    path, x = tmp_path / "net", torch.randn(1, 3, 9, 8)
    model = ai3.swap_backend(Net().eval())
    model(x)
    model.save(path)
    with safe_open(path, framework="numpy") as opened:
        document = json.loads(opened.metadata()["ai3"])
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    choose = random.Random(share)
    before = peak()
    loaded = 0
    for _ in range(1000):
        changed = copy.deepcopy(document)
        for _ in range(choose.choice((1, 1, 1, 2, 4))):
            mutate(changed, choose)
        loaded += check(path, arrays, changed, x)
    assert 0 < loaded < 1000
    assert peak() - before < 500 << 10


def test_changed_bytes(tmp_path: Path) -> None:
    path, x = tmp_path / "net", torch.randn(1, 3, 9, 8)
    ai3.swap_backend(Net().eval()).save(path)
    whole, choose = path.read_bytes(), random.Random(0)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(choose.randrange(1, 4)):
            changed[choose.randrange(len(changed))] = choose.randrange(256)
        path.write_bytes(changed[: choose.choice((len(changed), choose.randrange(len(changed))))])
        with contextlib.suppress(FileError, ValueError, TypeError):
            ai3.load(path).prepare(x)


HUGE = [
    ("windows", [3, 2**61, 1]),
    ("windows", [3, -(2**61), 1, 1, False]),
    ("bins", [2**40, 1]),
    ("each repeated", [-(10**6), -(10**6)]),
    ("folded", [10**8, 10**3, -(10**8), 1, 0, 1]),
    ("smoothing", [8, 8, "bilinear", False, 1e-12, 1]),
    ("tri", [0, 10**12, 0]),
    ("tri", [-1, 10**12, 0]),
    ("prod", [{"function": "windows", "arguments": [10**6, 1, 1]}]),
    ("pow", [{"function": "pow", "arguments": [10**18, 64]}, 64]),
    ("mul", [[{"function": "full", "arguments": [[10**4, 1], 1.0]}] * 2]),
    ("mul", [{"function": "full", "arguments": [[1], 1.0]}] * 2),
    ("full", [[2], "text"]),
    ("mod", ["%1000000000d", 5]),
    ("tuple", [{"function": "windows", "arguments": [10**6, 1, 1]}] * 100),
]


@pytest.mark.parametrize("function, arguments", HUGE)
def test_what_expressions_come_to_is_bounded(
    function: str, arguments: list[Any], tmp_path: Path
) -> None:
    ai3.swap_backend(nn.ReLU().eval()).save(tmp_path / "net")

    def change(document: Any) -> None:
        value = {"function": function, "arguments": arguments}
        made = {"inputs": [], "attributes": {"value": value}, "weights": []}
        rest = {"module": "", "algorithm": "default"}
        document["nodes"].insert(0, {"name": "made", "op": "constant", **made, **rest})

    rewrite(tmp_path / "net", change)
    before, started = peak(), time.process_time()
    with pytest.raises((FileError, ValueError)):
        ai3.load(tmp_path / "net").prepare(torch.ones(2))
    assert time.process_time() - started < 2
    assert peak() - before < 500 << 10


@pytest.mark.parametrize(
    "op, attributes, message",
    [
        ("interpolate", {"size": [2**30, 8]}, "1073741824 elements along a dimension of 4"),
        ("interpolate", {"scale_factor": [1e9, 1.0]}, "elements along a dimension of 4"),
        ("pad", {"pad": [0, 2**30]}, "elements along a dimension of 4"),
        ("expand", {"shape": [2**28, 3, 4, 4]}, "elements along a dimension of 1"),
        ("adaptiveavgpool2d", {"output_size": [2**30, 1]}, "more than"),
        ("interpolate", {"size": [2**24, 2**24], "mode": "bicubic"}, "more than 2.42 elements"),
        ("interpolate", {"size": [2**20, 2**20]}, "machine's memory"),
    ],
)
def test_what_outputs_take_is_bounded(
    op: str, attributes: Any, message: str, tmp_path: Path
) -> None:
    ai3.swap_backend(nn.ReLU().eval()).save(tmp_path / "net")
    rewrite(
        tmp_path / "net", lambda document: document["nodes"][0].update(op=op, attributes=attributes)
    )
    model = ai3.load(tmp_path / "net")
    before, started = peak(), time.process_time()
    with pytest.raises(ValueError, match=message):
        model.prepare(torch.ones(1, 3, 4, 4))
    assert time.process_time() - started < 2
    assert op == "interpolate" or peak() - before < 500 << 10


def test_constants_are_bounded_together(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.zeros(x.shape[0] * 2**10)

    ai3.swap_backend(Masked().eval()).save(tmp_path / "net")

    def change(document: Any) -> None:
        node = next(n for n in document["nodes"] if n["op"] == "constant")
        more = [{**node, "name": f"made{i}"} for i in range(20)]
        document["nodes"] = [*more, *document["nodes"]]

    model = ai3.load(tmp_path / "net")
    model.prepare(torch.ones(2**10, 1))
    rewrite(tmp_path / "net", change)
    model = ai3.load(tmp_path / "net")
    model.prepare(torch.ones(2**10, 1))
    with pytest.raises(ValueError, match="constants and tables pass"):
        model.prepare(torch.ones(2**14, 1))


def test_what_takes_long_is_not_folded() -> None:
    class Products(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ones = torch.ones_like(x)
            return x + ones @ ones

    model = ai3.swap_backend(Products().eval())
    for size, ran in ((2**8, False), (2**10, True)):
        ops = [row.op for row in model.profile(torch.ones(size, size), repeat=1)]
        assert ("matmul" in ops) == ran
