"""Convert a model to another opset."""

from pgc_graph.passes.opset.convert import LOWEST_OPSET, convert_opset, plan_conversion
from pgc_graph.passes.opset.verdict import Verdict

__all__ = ["LOWEST_OPSET", "Verdict", "convert_opset", "plan_conversion"]
