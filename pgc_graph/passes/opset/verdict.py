"""What converting a model does to one node."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What happens to one node.

    Attributes:
        node: The node's name, or its first output's where it has none.
        op_type: Its operator.
        action: `same` (both opsets know it by one version), `relabel` (the other version reads this node the same way),
            `adapter` (our own rewrite), `converter` (onnx.version_converter, for this one node), `constant` (its
            outputs do not depend on what the model is fed, and became initializers) or `refused`.
        detail: From which version of the operator to which, what was done, or what stands in the way.
        remedy: For a refused node, what would help; otherwise empty.
    """

    node: str
    op_type: str
    action: str
    detail: str
    remedy: str = ""
