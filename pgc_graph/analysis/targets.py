"""Which tensors a study looks at: every Sigmoid→Mul product by default, or those that filters select.

A Sigmoid→Mul tensor is the output of a Mul one of whose operands is the output of a Sigmoid. Two kinds matter:
`silu`, x * sigmoid(x) (Elfwing et al. 2018), and `gate`, x * sigmoid(something else), the form of squeeze-and-excitation
(Hu et al. 2018).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.errors import OptionError, SelectionError

__all__ = ["Target", "TargetQuery", "find_targets", "select_targets", "sigmoid_mul_kind"]


@dataclass(frozen=True)
class Target:
    """A tensor that can be tapped or gated.

    Attributes:
        tensor: The tensor's name.
        node: The name of the node that produces it (the tensor's name where the node has none).
        op_type: That node's operator.
        kind: `silu` or `gate` for a Sigmoid→Mul tensor, otherwise empty.
    """

    tensor: str
    node: str
    op_type: str
    kind: str = ""


@dataclass(frozen=True)
class TargetQuery:
    """How to choose among all tensors; without any filter, the Sigmoid→Mul tensors.

    Attributes:
        name_contains: Keep tensors whose node or tensor name contains one of these, ignoring case.
        op_types: Keep tensors produced by one of these operators, ignoring case.
        regexes: Keep tensors whose name one of these finds.
        include_all: Consider every tensor even without another filter.
        limit: Keep only the first so many, in graph order.
    """

    name_contains: tuple[str, ...] = ()
    op_types: tuple[str, ...] = ()
    regexes: tuple[str, ...] = ()
    include_all: bool = False
    limit: int | None = None

    @property
    def is_default(self) -> bool:
        """Whether only the Sigmoid→Mul tensors are considered."""
        return not (self.name_contains or self.op_types or self.regexes or self.include_all)


def sigmoid_mul_kind(node: ir.Node) -> str:
    """Say what kind of Sigmoid→Mul product a node is: `silu`, `gate`, or an empty string if it is none."""
    if node.op_type != "Mul" or node.domain not in ("", "ai.onnx"):
        return ""
    for sigmoid_output, other in (node.inputs, node.inputs[::-1]):
        producer = None if sigmoid_output is None else sigmoid_output.producer()
        if producer is not None and producer.op_type == "Sigmoid" and producer.domain in ("", "ai.onnx"):
            return "silu" if producer.inputs[0] is other else "gate"
    return ""


def find_targets(model: ir.Model) -> tuple[Target, ...]:
    """List the output tensors of all nodes of the main graph, in graph order.

    Tensors inside subgraphs (If, Loop, Scan) and functions cannot be tapped from outside and are not listed.
    """
    return tuple(
        Target(str(value.name), node.name or str(value.name), node.op_type, sigmoid_mul_kind(node))
        for node in model.graph
        for value in node.outputs
        if value.name
    )


def select_targets(targets: Sequence[Target], query: TargetQuery) -> tuple[Target, ...]:
    """Keep the targets that a query asks for.

    Raises:
        OptionError: A regular expression is malformed, or the limit is below 1.
        SelectionError: Nothing is left.
    """
    if query.limit is not None and query.limit < 1:
        raise OptionError(f"limit {query.limit} keeps no tensor; expected at least 1")
    chosen = [target for target in targets if target.kind] if query.is_default else list(targets)
    if query.name_contains:
        terms = [term.lower() for term in query.name_contains]
        chosen = [t for t in chosen if any(term in t.tensor.lower() or term in t.node.lower() for term in terms)]
    if query.op_types:
        op_types = {op_type.lower() for op_type in query.op_types}
        chosen = [t for t in chosen if t.op_type.lower() in op_types]
    if query.regexes:
        patterns = [_compile(regex) for regex in query.regexes]
        chosen = [t for t in chosen if any(pattern.search(t.tensor) for pattern in patterns)]
    if not chosen:
        raise SelectionError(_nothing_message(query, len(targets)))
    return tuple(chosen[: query.limit])


def _compile(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise OptionError(f"regular expression {regex!r} is malformed: {error}") from error


def _nothing_message(query: TargetQuery, total: int) -> str:
    if query.is_default:
        return (
            f"the model has no Sigmoid→Mul tensor among its {total} tensors; choose others with --include-all, "
            "--name-contains, --op-type or --regex"
        )
    filters = [
        f"{label} {', '.join(map(repr, values))}"
        for label, values in (
            ("name contains", query.name_contains),
            ("operator", query.op_types),
            ("regex", query.regexes),
        )
        if values
    ]
    return (
        f"no tensor matches {' and '.join(filters) or 'the filters'} ({total} tensors); list them with --list-targets"
    )
