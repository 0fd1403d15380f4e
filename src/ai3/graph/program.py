"""Programs of the operation `pointwise` as text: instructions on inputs x0, x1, ..., earlier
results t0, t1, ... and numbers, as in "mul(x0, 2); exp(t0)"."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Instruction: TypeAlias = tuple[str, tuple[str, ...]]
"""A function and its operands."""


def parse(text: str) -> list[Instruction]:
    """The instructions of a program."""
    made = []
    for part in text.split(";"):
        function, _, rest = part.strip().partition("(")
        made.append((function, tuple(word.strip() for word in rest.rstrip(")").split(","))))
    return made


def unparse(instructions: Sequence[Instruction]) -> str:
    return "; ".join(f"{function}({', '.join(operands)})" for function, operands in instructions)


class Composer:
    """Makes one program of several, which read the same inputs or one another's results."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self._instructions: list[Instruction] = []
        self._known: dict[Instruction, str] = {}

    def input(self, name: str) -> str:
        """The operand that is the value of this name."""
        if name not in self.inputs:
            self.inputs.append(name)
        return f"x{self.inputs.index(name)}"

    def apply(self, function: str, *operands: str) -> str:
        """The operand that is a function of others; computed once, however often asked for."""
        made = (function, operands)
        if made not in self._known:
            self._known[made] = f"t{len(self._instructions)}"
            self._instructions.append(made)
        return self._known[made]

    def include(self, text: str, operands: Sequence[str]) -> str:
        """The operand that is what another program gives for these inputs."""
        results: list[str] = []
        for function, given in parse(text):
            places = [
                operands[int(word[1:])]
                if word[0] == "x"
                else results[int(word[1:])]
                if word[0] == "t"
                else word
                for word in given
            ]
            results.append(self.apply(function, *places))
        return results[-1]

    def text(self, result: str) -> str:
        """The program whose last instruction gives the operand `result`, without what that does
        not need. Raises ValueError where it is no instruction's result."""
        if result[0] != "t":
            raise ValueError(f"the program's result is its operand {result}")
        needed = {int(result[1:])}
        for index in range(int(result[1:]), -1, -1):
            if index in needed:
                for word in self._instructions[index][1]:
                    if word[0] == "t":
                        needed.add(int(word[1:]))
        names = {f"t{old}": f"t{new}" for new, old in enumerate(sorted(needed))}
        return unparse(
            [
                (function, tuple(names.get(word, word) for word in operands))
                for function, operands in (self._instructions[i] for i in sorted(needed))
            ]
        )


def literal(number: bool | int | float) -> str:
    """A number as programs have it."""
    return repr(number)


PROGRAMS = {
    "sub": "sub(x0, x1)",
    "mul": "mul(x0, x1)",
    "div": "div(x0, x1)",
    "add": "add(x0, x1)",
    "relu": "relu(x0)",
    "relu6": "relu6(x0)",
    "silu": "silu(x0)",
    "hardswish": "hardswish(x0)",
    "hardsigmoid": "hardsigmoid(x0)",
    "sigmoid": "sigmoid(x0)",
    "tanh": "tanh(x0)",
}
"""Operations of their own that a program computes too, where they have no attributes."""


def program_of(op: str, attributes: Mapping[str, object]) -> str | None:
    """The program that does what a node does; None where there is none."""
    if op == "pointwise":
        return str(attributes["program"])
    if op in ("add", "sub") and attributes.get("alpha", 1) != 1:
        return f"mul(x1, {attributes['alpha']!r}); {op}(x0, t0)"
    if op == "leaky_relu":
        return f"leaky_relu(x0, {attributes['negative_slope']!r})"
    if op == "elu":
        return f"elu(x0, {attributes['alpha']!r})"
    if op == "gelu":
        return "gelu_tanh(x0)" if attributes.get("approximate") == "tanh" else "gelu(x0)"
    return PROGRAMS.get(op)
