"""Where a classifier's logit is: the tensor before the Sigmoid or Softmax that makes its score.

Probabilities saturate: 0.9999 and 0.999999 look alike where the logits 9 and 14 do not.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["logit_tensor"]

_TRANSPARENT = frozenset({"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast"})
_SQUASHING = frozenset({"Sigmoid", "Softmax"})


def logit_tensor(score: ir.Value) -> ir.Value | None:
    """Return the tensor that the last Sigmoid or Softmax turns into the score, or None if there is none.

    Between the two, only operators that reorder nothing are allowed: reshapes, Identity and Cast.

    Args:
        score: The model's score output.
    """
    node = score.producer()
    while node is not None and node.domain in ("", "ai.onnx"):
        if node.op_type in _SQUASHING:
            return node.inputs[0]
        if node.op_type not in _TRANSPARENT or node.inputs[0] is None:
            return None
        node = node.inputs[0].producer()
    return None
