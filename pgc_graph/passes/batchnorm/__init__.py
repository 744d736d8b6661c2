"""Fold BatchNormalization into the nodes around it."""

from pgc_graph.passes.batchnorm.fold import fold_batchnorm

__all__ = ["fold_batchnorm"]
