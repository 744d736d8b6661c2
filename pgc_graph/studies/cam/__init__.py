"""Class-activation maps and input attributions: which places of an image speak for a class.

run.py         images -> maps, by any method
graph.py       the methods that need gradients of tensors, as one ONNX model: image -> score and maps
formulas.py    their formulas, one function a method
ablation.py    the method that switches channels off
eigen.py       the method that looks at the activation alone
attribution.py the methods that look at the gradient by the image itself
score.py       which number is explained
"""

from __future__ import annotations

from pgc_graph.studies.cam.graph import CamModel, CamOutput, cam_model
from pgc_graph.studies.cam.methods import GRAPH_METHODS, INPUT_METHODS, METHODS, CamOptions, CamResult
from pgc_graph.studies.cam.run import class_activation_maps

__all__ = [
    "GRAPH_METHODS",
    "INPUT_METHODS",
    "METHODS",
    "CamModel",
    "CamOptions",
    "CamOutput",
    "CamResult",
    "cam_model",
    "class_activation_maps",
]
