"""Convert a model to another opset."""

from pgc_graph.passes.opset.convert import convert_opset
from pgc_graph.passes.opset.verdict import Verdict, plan_conversion

__all__ = ["Verdict", "convert_opset", "plan_conversion"]
