"""Recurrent layers: products with the input for all steps at once, then the recurrence."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.movement import sliced
from ai3.torch.lowerings.shapes import permuted, rank, reshape, unsqueeze
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "tanh", "RNN_RELU": "relu"}
"""By nn.RNNBase.mode."""


def module_recurrent(b: Builder, module: nn.RNNBase, x: Any, hx: Any = None) -> Any:
    """Of nn.LSTM, nn.GRU and nn.RNN; of one sequence without the dimension N too."""
    if not isinstance(x, Value):
        raise Refusal("sequences that are packed")
    if module.training and module.dropout:
        raise Refusal("dropout between layers, which is random; call eval() first")
    lstm = module.mode == "LSTM"
    alone = Expression("eq", (rank(x), 2))

    def batched(value: Any, dim: int, of: Expression) -> Value:
        """With a dimension N of one where there is none."""
        value = b.value(value)
        shape = shape_of(value.name)
        added = Expression("unsqueezed", (shape, dim))
        return reshape(b, value, Expression("choose", (of, added, shape)))

    def alone_again(value: Value, dim: int) -> Value:
        shape = shape_of(value.name)
        gone = Expression("squeezed", (shape, dim))
        return reshape(b, value, Expression("choose", (alone, gone, shape)))

    n = 0 if module.batch_first else 1
    states = hx if isinstance(hx, tuple | list) else () if hx is None else (hx,)
    output, *last = _layers(
        b,
        CELLS[module.mode],
        batched(x, n, alone),
        [batched(state, 1, alone) for state in states],
        module._flat_weights,
        module.bias,
        module.num_layers,
        module.bidirectional,
        module.batch_first,
    )
    output, last = alone_again(output, n), [alone_again(state, 1) for state in last]
    return output, tuple(last) if lstm else last[0]


def module_cell(b: Builder, module: nn.RNNCellBase, x: Value, hx: Any = None) -> Any:
    """Of nn.LSTMCell, nn.GRUCell and nn.RNNCell."""
    kind = {nn.LSTMCell: "lstm", nn.GRUCell: "gru"}
    cell: str = kind.get(type(module)) or str(module.nonlinearity)
    states = hx if isinstance(hx, tuple | list) else () if hx is None else (hx,)
    weights = [module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh]
    shape = Expression("batched", (shape_of(x.name), 2))
    states = [
        reshape(b, b.value(s), Expression("batched", (shape_of(b.value(s).name), 2)))
        for s in states
    ]
    found = _cell(b, cell, reshape(b, x, shape), states, weights)
    own = rank(x)
    found = tuple(
        reshape(b, value, Expression("last", (shape_of(value.name), own))) for value in found
    )
    return found if cell == "lstm" else found[0]


def _cell(
    b: Builder, cell: str, x: Value, states: Sequence[Any], weights: Sequence[Any]
) -> tuple[Value, ...]:
    """(N, IC) after one step, as (N, H) each."""
    x = unsqueeze(b, x, 0)
    _, *last = _direction(b, cell, x, states, weights, False)
    return tuple(last)


def _layers(
    b: Builder,
    cell: str,
    x: Value,
    states: Sequence[Any],
    weights: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """The output, and the states after the last step, each (layers * directions, N, H)."""
    directions = 2 if bidirectional else 1
    count = len(weights) // (num_layers * directions)
    if batch_first:
        x = permuted(b, x, (1, 0, 2))
    last: list[tuple[Value, ...]] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            own = list(weights[i * count : (i + 1) * count])
            if not has_biases:
                own[2:2] = [None, None]
            first = [_row(b, b.value(state), i) for state in states]
            output, *after = _direction(b, cell, x, first, own, direction == 1)
            outputs.append(output)
            last.append(tuple(after))
        x = outputs[0] if directions == 1 else b.add("concat", outputs, {"dim": 2})
    if batch_first:
        x = permuted(b, x, (1, 0, 2))
    return x, *(b.add("stack", list(rows), {"dim": 0}) for rows in zip(*last, strict=True))


def _direction(
    b: Builder, cell: str, x: Value, states: Sequence[Any], weights: Sequence[Any], reverse: bool
) -> tuple[Value, ...]:
    """The output (T, N, P), and the states after the last step, (N, P) and for lstm (N, H)."""
    weight_ih, weight_hh, bias_ih, bias_hh, *projection = weights
    if cell != "gru" and bias_ih is not None:
        # What the gates of gru get from the state is added up by itself.
        bias_ih, bias_hh = bias_ih + bias_hh, None
    gates = b.add("linear", [x], {}, [weight_ih, bias_ih])
    found = b.add(
        "recurrence",
        [gates, *states],
        {"cell": cell, "reverse": reverse},
        [weight_hh, bias_hh, *projection],
    )
    steps = shape_of(x.name)[0]
    output = found
    if cell == "lstm":
        output = sliced(b, output, 0, 0, steps)
    if projection:
        output = sliced(b, output, 2, 0, weight_hh.shape[1])
    hidden = _row(b, output, 0 if reverse else steps - 1)
    return (output, hidden, _row(b, found, steps)) if cell == "lstm" else (output, hidden)


def _row(b: Builder, x: Value, index: Any) -> Value:
    return reshape(b, sliced(b, x, 0, index, index + 1), (shape_of(x.name)[1], shape_of(x.name)[2]))


def _aten_layers(cell: str) -> Any:
    def lower(
        b: Builder,
        x: Value,
        hx: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Value, ...]:
        if train and dropout:
            raise Refusal("dropout between layers, which is random; call eval() first")
        states = list(hx) if isinstance(hx, tuple | list) else [hx]
        return _layers(
            b, cell, x, states, params, has_biases, num_layers, bidirectional, batch_first
        )

    return lower


def _aten_cell(cell: str) -> Any:
    def lower(
        b: Builder, x: Value, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
    ) -> Any:
        states = list(hx) if isinstance(hx, tuple | list) else [hx]
        found = _cell(b, cell, x, states, [w_ih, w_hh, b_ih, b_hh])
        return found if cell == "lstm" else found[0]

    return lower


for _mode, _cell_name in CELLS.items():
    lowers(f"aten.{_mode.lower()}", f"torch.{_mode.lower()}")(_aten_layers(_cell_name))
    lowers(f"aten.{_mode.lower()}_cell", f"torch.{_mode.lower()}_cell")(_aten_cell(_cell_name))

MODULES: dict[type[nn.Module], Any] = {
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), module_recurrent),
    **dict.fromkeys((nn.LSTMCell, nn.GRUCell, nn.RNNCell), module_cell),
}
