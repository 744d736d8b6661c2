"""Reverse-mode differentiation: gradients of a graph as nodes of the graph."""
