"""Remove channels from a model."""

from pgc_graph.passes.prune.prune import Pruned, prune_channels

__all__ = ["Pruned", "prune_channels"]
