"""Which tensors a study looks at: every Sigmoid→Mul product by default, or those that filters select.

A Sigmoid→Mul tensor is the output of a Mul one of whose operands is the output of a Sigmoid: of kind `silu` or `gate`
(see `patterns`, which knows other activations as well).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.addresses import term_finds
from pgc_graph.analysis.patterns import PATTERNS, SIGMOID_MUL, activation_kind, pattern_kinds
from pgc_graph.errors import OptionError, SelectionError

__all__ = ["Target", "TargetQuery", "find_targets", "select_targets"]


@dataclass(frozen=True)
class Target:
    """A tensor that can be tapped or gated.

    Attributes:
        tensor: The tensor's name.
        node: The name of the node that produces it (the tensor's name where the node has none).
        op_type: That node's operator.
        kind: The activation that the tensor is the result of, such as `silu`, `gate` or `relu`; empty for none.
    """

    tensor: str
    node: str
    op_type: str
    kind: str = ""

    @property
    def is_sigmoid_mul(self) -> bool:
        """Whether it is one of the tensors that are looked at by default."""
        return self.kind in SIGMOID_MUL


@dataclass(frozen=True)
class TargetQuery:
    """How to choose among all tensors; without any filter, the Sigmoid→Mul tensors.

    Attributes:
        name_contains: Keep tensors whose node or tensor name contains one of these, ignoring case, or that one of these
            addresses (`silu@features.2`, see `addresses`) finds.
        op_types: Keep tensors produced by one of these operators, ignoring case.
        regexes: Keep tensors whose name one of these finds.
        include_all: Consider every tensor even without another filter.
        limit: Keep only the first so many, in graph order.
        patterns: Keep the results of these activations: one of `patterns.PATTERNS`.
    """

    name_contains: tuple[str, ...] = ()
    op_types: tuple[str, ...] = ()
    regexes: tuple[str, ...] = ()
    include_all: bool = False
    limit: int | None = None
    patterns: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether only the Sigmoid→Mul tensors are considered."""
        return not (self.name_contains or self.op_types or self.regexes or self.include_all or self.patterns)


def find_targets(model: ir.Model) -> tuple[Target, ...]:
    """List the output tensors of all nodes of the main graph, in graph order.

    Tensors inside subgraphs (If, Loop, Scan) and functions cannot be tapped from outside and are not listed.
    """
    return tuple(
        Target(str(value.name), node.name or str(value.name), node.op_type, activation_kind(node))
        for node in model.graph
        for value in node.outputs
        if value.name
    )


def select_targets(targets: Sequence[Target], query: TargetQuery) -> tuple[Target, ...]:
    """Keep the targets that a query asks for.

    Raises:
        OptionError: A regular expression is malformed, a pattern unknown, or the limit below 1.
        SelectionError: Nothing is left.
    """
    if query.limit is not None and query.limit < 1:
        raise OptionError(f"limit {query.limit} keeps no tensor; expected at least 1")
    chosen = [target for target in targets if target.is_sigmoid_mul] if query.is_default else list(targets)
    if query.name_contains:
        chosen = [t for t in chosen if any(term_finds(term, t) for term in query.name_contains)]
    if query.patterns:
        kinds = frozenset[str]().union(*map(_kinds, query.patterns))
        chosen = [t for t in chosen if t.kind in kinds]
    if query.op_types:
        op_types = {op_type.lower() for op_type in query.op_types}
        chosen = [t for t in chosen if t.op_type.lower() in op_types]
    if query.regexes:
        patterns = [_compile(regex) for regex in query.regexes]
        chosen = [t for t in chosen if any(pattern.search(t.tensor) for pattern in patterns)]
    if not chosen:
        raise SelectionError(_nothing_message(query, len(targets)))
    return tuple(chosen[: query.limit])


def _kinds(pattern: str) -> frozenset[str]:
    kinds = pattern_kinds(pattern)
    if not kinds:
        raise OptionError(f"unknown pattern {pattern!r}; expected {', '.join(PATTERNS)}")
    return kinds


def _compile(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise OptionError(f"regular expression {regex!r} is malformed: {error}") from error


def _nothing_message(query: TargetQuery, total: int) -> str:
    if query.is_default:
        return (
            f"the model has no Sigmoid→Mul tensor among its {total} tensors; choose others with --include-all, "
            "--name-contains, --pattern, --op-type or --regex"
        )
    filters = [
        f"{label} {', '.join(map(repr, values))}"
        for label, values in (
            ("name contains", query.name_contains),
            ("pattern", query.patterns),
            ("operator", query.op_types),
            ("regex", query.regexes),
        )
        if values
    ]
    return (
        f"no tensor matches {' and '.join(filters) or 'the filters'} ({total} tensors); list them with --list-targets"
    )
