"""What each tensor costs: the multiply-accumulates, weights and time of the block of nodes that ends in it.

A node belongs to the first tensor, in graph order, that it leads to, so that blocks do not overlap and those of all
tensors add up to the part of the model above the last of them. The time is that of the block alone, as a model of its own
that onnxruntime may rewrite as it likes, on one thread and on what an image makes of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.reach import node_reads, upstream_nodes
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.passes.extract import extract
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.runtime.timing import interleave

__all__ = ["BlockCost", "measure_costs"]

RUNS = 20
"""Of every block; the median counts."""

_WARMUP = 2
Array = NDArray[Any]


@dataclass(frozen=True)
class BlockCost:
    """What the block of nodes that ends in a tensor costs, for one image.

    Attributes:
        tensor: The tensor.
        nodes: How many nodes lead to it and to no tensor before it.
        macs: Their multiply-accumulates, by the rules of `analysis.macs`.
        parameter_bytes: Of the weights that they read and no block before does.
        activation_bytes: Of the tensor itself.
        milliseconds: Median time of the block on one thread.
    """

    tensor: str
    nodes: int
    macs: int
    parameter_bytes: int
    activation_bytes: int
    milliseconds: float


@dataclass(frozen=True, eq=False)
class _Block:
    tensor: str
    nodes: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    parameter_bytes: int


def measure_costs(
    model: ir.Model,
    targets: Sequence[Target],
    image: NDArray[np.float32],
    *,
    runtime: RuntimeOptions | None = None,
    runs: int = RUNS,
) -> tuple[BlockCost, ...]:
    """Measure what the block of each of some tensors costs.

    Args:
        model: A classifier with one image input; stays untouched.
        targets: The tensors.
        image: `(C, H, W)` or `(H, W, C)` float32, normalised; what the blocks are timed on.
        runtime: Where to run; the number of threads is always one.
        runs: How often each block is timed.

    Returns:
        One a target, in their order.

    Raises:
        OptionError: `runs` is less than 1.
        SelectionError: A tensor is not produced by a node of the main graph.
        UnsupportedError: The model is no image classifier, or the type of a tensor between blocks is unknown.
        ModelError: onnxruntime cannot run the model or one of the blocks.
    """
    if runs < 1:
        raise OptionError(f"{runs} runs measure nothing; expected at least 1")
    typed = infer_shapes(model)
    source = image_input(typed)
    rows = source.fixed_batch or 1
    options = RuntimeOptions(provider=(runtime or RuntimeOptions()).provider, threads=1)
    blocks = list(_blocks(typed.graph, [target.tensor for target in targets]))
    tensors = list(dict.fromkeys(name for block in blocks for name in (*block.inputs, block.tensor)))
    feed = {source.name: np.repeat(image[None], rows, axis=0).astype(source.dtype.numpy())}
    known = feed | _recorded(typed, [name for name in tensors if name != source.name], feed, options)
    parts = [_part(typed, block, known, options) for block in blocks]
    times = interleave([part.run for part in parts], runs=runs, warmup=_WARMUP)
    found = {
        block.tensor: BlockCost(
            block.tensor,
            len(block.nodes),
            part.macs // rows,
            block.parameter_bytes,
            known[block.tensor].nbytes // rows,
            float(np.median(milliseconds)) / rows,
        )
        for block, part, milliseconds in zip(blocks, parts, times, strict=True)
    }
    return tuple(found[target.tensor] for target in targets)


def _blocks(graph: ir.Graph, tensors: Sequence[str]) -> Iterator[_Block]:
    """Yield the block of each tensor, in graph order."""
    values = {str(value.name): value for node in graph for value in node.outputs if value.name}
    for name in tensors:
        if name not in values:
            raise SelectionError(f"no node of the main graph produces {name!r}; choose a tensor that one does")
    constant = _constant_values(graph)
    wanted = set(tensors)
    seen: set[ir.Node] = set()
    weights: set[ir.Value] = set()
    for value in (value for node in graph for value in node.outputs if value.name in wanted):
        nodes = tuple(node for node in upstream_nodes(graph, [value]) if node not in seen)
        inside = {output for node in nodes for output in node.outputs}
        reads = dict.fromkeys(read for node in nodes for read in node_reads(node))
        inputs = tuple(str(read.name) for read in reads if read not in inside and read not in constant)
        read_weights = {read for read in reads if read.const_value is not None} - weights
        size = sum(weight.const_value.nbytes for weight in read_weights if weight.const_value is not None)
        yield _Block(str(value.name), nodes, inputs, size)
        seen.update(nodes)
        weights.update(read_weights)


def _constant_values(graph: ir.Graph) -> frozenset[ir.Value]:
    """Return initializers and what is computed from them alone; a block takes these along."""
    found = set(graph.initializers.values())
    for node in graph:
        if found.issuperset(node_reads(node)):
            found.update(node.outputs)
    return frozenset(found)


@dataclass(frozen=True, eq=False)
class _Part:
    session: Session | None
    feeds: Mapping[str, Array]
    macs: int

    def run(self) -> None:
        """Run the block once, where it has a node."""
        if self.session is not None:
            self.session.run(self.feeds)


def _part(model: ir.Model, block: _Block, known: Mapping[str, Array], options: RuntimeOptions) -> _Part:
    """Make a model of a block and open it."""
    if not block.nodes or not block.inputs:
        return _Part(None, {}, 0)
    part = extract(model, block.inputs, [block.tensor]).model
    feeds = {name: known[name] for name in block.inputs}
    counted = count_macs(part, input_shapes={name: array.shape for name, array in feeds.items()})
    return _Part(open_session(part, options), feeds, counted.total * counted.batch)


def _recorded(
    model: ir.Model, tensors: Sequence[str], feed: Mapping[str, Array], options: RuntimeOptions
) -> dict[str, Array]:
    """Return what an image makes of some tensors."""
    tapped = add_taps(model, tensors, require_types=False).model
    return dict(zip(tensors, open_session(tapped, options).run(feed, tensors), strict=True))
