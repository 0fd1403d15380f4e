"""What follows a convolution or linear layer in a graph: a sum, and an activation."""

from ai3.problem import Problem

ATTRIBUTES = ("activation", "activation_parameter")


def has_residual(problem: Problem) -> bool:
    return problem.op in ("conv2d", "linear") and len(problem.inputs) > 1


def activation_of(problem: Problem) -> str:
    """The activation's name, "none" where there is none."""
    return str(problem.attributes.get("activation") or "none")


def has_epilogue(problem: Problem) -> bool:
    return has_residual(problem) or activation_of(problem) != "none"


def program_of(problem: Problem) -> str:
    """The same as a program of `pointwise` on the result without it and on the second input."""
    made = ["add(x0, x1)"] if has_residual(problem) else []
    if (activation := activation_of(problem)) != "none":
        operands = ["t0" if made else "x0"]
        if activation in ("leaky_relu", "elu"):
            operands.append(repr(float(problem.attributes.get("activation_parameter") or 0.0)))
        made.append(f"{activation}({', '.join(operands)})")
    return "; ".join(made)
