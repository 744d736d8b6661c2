"""Where do two models part? The first inner tensor that differs, found without making every tensor visible.

Tensors are matched if they have the same name and are read by the same operators: once BatchNormalization is folded, the
output of the convolution before it bears the same name and holds something else, but is read by another operator as well.
Should a matched tensor still mean something else, only a difference that goes on to the output counts:

1. Begin at an output that differs. Of the matched tensors above it, in topological order, a binary search finds one that
   differs (or the output itself) right behind one that agrees. A probe looks at a few neighbours at once; where any of
   them agrees, what differs before it has healed, and the search goes on behind it.
2. The found tensor's sources are the nearest matched tensors that it is computed from. If all agree, the models part
   between them and it; tensors between that have the same name, other readers, and yet agree, narrow the place down. Else
   go on above the last source that differs.

Each step moves up in topological order, so it ends. At most `_GROUP` tensors are outputs of a model at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.reach import node_reads, upstream_nodes
from pgc_graph.runtime.difference import ArrayDifference, array_difference, feeds_for
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["Divergence", "Limits", "find_divergence"]

logger = logging.getLogger(__name__)

_PLAIN = RuntimeOptions(provider="cpu", optimise=False)
_GROUP = 8
_TRANSPARENT = ("Identity", "Dropout")
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """How far a tensor may be from its reference: absolutely, or as a part of the reference's largest |value|."""

    tolerance: float
    relative: float

    def allowed(self, found: ArrayDifference) -> float:
        """Return the largest |Δ| allowed for a tensor."""
        return max(self.tolerance, self.relative * found.max_magnitude)

    def excess(self, found: ArrayDifference) -> float:
        """Return how many times what is allowed a tensor differs; infinite where a note says what else is wrong."""
        allowed = self.allowed(found)
        if found.note or not np.isfinite(found.max_difference):
            return float("inf")
        return found.max_difference / allowed if allowed else (float("inf") if found.max_difference else 0.0)


@dataclass(frozen=True)
class Divergence:
    """Where two models part.

    Attributes:
        output: The output from which the search began.
        tensor: The first tensor that differs.
        node: The reference's node that computes it (its name, or its operator where it has none).
        operator: That node's operator.
        candidate_node: The candidate's node that computes the tensor of that name.
        candidate_operator: That node's operator.
        max_difference: Largest |Δ| of the tensor.
        max_magnitude: Largest |value| of it in the reference.
        note: What else is wrong with it (shapes, dtypes, non-finite values), or empty.
        agreeing: The nearest tensors before it, all of which agree; graph inputs and weights are not named.
        between: The reference's nodes from there to the tensor, the tensor's own included.
        matched: How many tensors above the output both models have.
        compared: How many of them were looked at.
    """

    output: str
    tensor: str
    node: str
    operator: str
    candidate_node: str
    candidate_operator: str
    max_difference: float
    max_magnitude: float
    note: str
    agreeing: tuple[str, ...]
    between: tuple[str, ...]
    matched: int
    compared: int


def find_divergence(
    reference: ir.Model, candidate: ir.Model, feed: Feeds, output: tuple[str, str], limits: Limits
) -> Divergence:
    """Find the first tensor that differs on the way to an output that differs.

    Args:
        reference: The model that is right by definition.
        candidate: The other.
        feed: An input on which the output differs.
        output: The output's name in the reference and in the candidate.
        limits: What is taken for equal.

    Raises:
        ModelError: onnxruntime cannot run one of the models.
    """
    search = _Search(reference, candidate, feed, limits, output)
    tensor = output[0]
    while True:
        tensor = search.transition(tensor)
        sources = search.sources(tensor)
        search.measure(sources)
        wrong = [name for name in sources if search.differs(name)]
        if not wrong:
            return search.divergence(tensor)
        logger.debug("%s differs, and so does %s above it", tensor, wrong[-1])
        tensor = wrong[-1]


class _Search:
    """What was found out about the tensors of two models, and the ways to find out more."""

    def __init__(
        self, reference: ir.Model, candidate: ir.Model, feed: Feeds, limits: Limits, output: tuple[str, str]
    ) -> None:
        self._limits, self._output, self._feed = limits, output, feed
        self._graph = reference.graph
        self._values = {str(value.name): value for node in reference.graph for value in node.outputs if value.name}
        self._others = {str(value.name): value for node in candidate.graph for value in node.outputs if value.name}
        self._matched = {
            name
            for name, value in self._values.items()
            if name in self._others and _users(value) == _users(self._others[name])
        }
        self._protos = [onnx.ModelProto.FromString(modelio.to_bytes(model)) for model in (reference, candidate)]
        self._found: dict[str, ArrayDifference | None] = {}
        self.measure([output[0]])

    def differs(self, name: str) -> bool:
        """Say whether a tensor that was measured differs; what is no tensor (a sequence) is passed over."""
        found = self._found[name]
        return found is not None and self._limits.excess(found) > 1

    def measure(self, names: Sequence[str]) -> None:
        """Run both models with some tensors as their outputs, a few at a time, and compare."""
        pending = [name for name in names if name not in self._found]
        for start in range(0, len(pending), _GROUP):
            group = pending[start : start + _GROUP]
            others = [self._output[1] if name == self._output[0] else name for name in group]
            lefts, rights = self._run(self._protos[0], group), self._run(self._protos[1], others)
            for name, left, right in zip(group, lefts, rights, strict=True):
                tensors = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
                self._found[name] = array_difference(left, right, name=name) if tensors else None

    def transition(self, name: str) -> str:
        """Find a tensor that differs right behind one that agrees (case 1); `name` differs."""
        chain = [*self.above(name), name]
        low, high = -1, len(chain) - 1
        while high - low > 1:
            middle = (low + high) // 2
            group = range(middle, min(middle + _GROUP, high))
            self.measure([chain[place] for place in group])
            agreeing = [place for place in group if not self.differs(chain[place])]
            low, high = (agreeing[-1], high) if agreeing else (low, middle)
        return chain[high]

    def above(self, name: str) -> list[str]:
        """List the matched tensors that a tensor is computed from, in topological order."""
        nodes = upstream_nodes(self._graph, [self._values[name]]) if name in self._values else ()
        names = [str(value.name) for node in nodes for value in node.outputs if value.name in self._matched]
        return [other for other in names if other != name]

    def sources(self, name: str) -> list[str]:
        """List the nearest matched tensors above a tensor, in topological order."""
        nearest, _ = self._region(name)
        return [other for other in self.above(name) if other in nearest]

    def _region(self, name: str) -> tuple[set[str], set[ir.Node]]:
        """Return the nearest matched tensors above a tensor, and the nodes between them and it."""
        nearest: set[str] = set()
        node = self._values[name].producer() if name in self._values else None
        nodes: set[ir.Node] = set()
        stack = [] if node is None else [node]
        while stack:
            node = stack.pop()
            if node in nodes:
                continue
            nodes.add(node)
            for value in node_reads(node):
                producer = value.producer()
                if producer is not None and value.name in self._matched:
                    nearest.add(str(value.name))
                elif producer is not None:
                    stack.append(producer)
        return nearest, nodes

    def divergence(self, name: str) -> Divergence:
        """Put into words where the models part: at a tensor whose sources agree."""
        _, nodes = self._region(name)
        inner = [str(value.name) for node in self._graph if node in nodes for value in node.outputs]
        doubtful = [other for other in inner if other in self._others and other not in (*self._matched, name)]
        self.measure(doubtful)
        self._matched.update(other for other in doubtful if self._found[other] is not None and not self.differs(other))
        found = self._found[name] or ArrayDifference()
        node, operator = _producer(self._values.get(name))
        _, nodes = self._region(name)
        other = self._others.get(self._output[1] if name == self._output[0] else name)
        return Divergence(
            self._output[0],
            name,
            node,
            operator,
            *_producer(other),
            found.max_difference,
            found.max_magnitude,
            found.note,
            tuple(self.sources(name)),
            tuple(f"{node.op_type} {node.name}".strip() for node in self._graph if node in nodes),
            len(self.above(self._output[0])),
            len(self._found) - 1,
        )

    def _run(self, proto: onnx.ModelProto, names: Sequence[str]) -> list[Any]:
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)  # onnxruntime infers the types
        session = open_session(proto.SerializeToString(), _PLAIN)
        return session.run(feeds_for(session, self._feed), list(names))


def _users(value: ir.Value) -> list[str]:
    """Name the operators that read a tensor, through those that change nothing; a graph output counts as one."""
    found = ["a graph output"] if value.is_graph_output() else []
    for node in value.consumers():
        found += _users(node.outputs[0]) if node.op_type in _TRANSPARENT else [node.op_type]
    return sorted(found)


def _producer(value: ir.Value | None) -> tuple[str, str]:
    node = None if value is None else value.producer()
    return ("", "") if node is None else (node.name or node.op_type, node.op_type)
