"""The `pgc-graph` group: commands are listed here and imported only when they run."""

from __future__ import annotations

from pgc_cli.lazy import lazy_group

__all__ = ["COMMANDS", "cli"]

COMMANDS = {
    "build": ("pgc_cli.build", "Write a PGC graph as ONNX from a preset and weights."),
    "inspect": ("pgc_cli.inspect", "Show a model: inputs, operators, parameters, MACs, metadata."),
    "name": ("pgc_cli.name", "Give every unnamed node a name, unique in every scope."),
    "simplify": ("pgc_cli.simplify", "Simplify the graph with onnxsim, checked."),
    "fold-bn": ("pgc_cli.fold_bn", "Fold BatchNormalization into the nodes around it."),
    "opset": ("pgc_cli.opset", "Convert the graph to another opset."),
    "optimize": ("pgc_cli.optimize", "name, simplify, fold-bn and opset in one go."),
    "rename": ("pgc_cli.rename", "Rename tensors and nodes by a regular expression."),
    "extract": ("pgc_cli.extract", "Cut the part between some tensors and others out into a model of its own."),
    "set-batch": ("pgc_cli.set_batch", "Make the batch dimension fixed or symbolic."),
    "set-metadata": ("pgc_cli.set_metadata", "Write and remove entries of the model's metadata."),
    "diff": ("pgc_cli.diff", "Show what differs between two models: nodes, shapes, weights, metadata."),
    "verify": ("pgc_cli.verify", "Run two models on the same inputs and compare all outputs."),
    "gate": ("pgc_cli.gate", "Write a model with a gate after every chosen tensor."),
    "fold-gates": ("pgc_cli.fold_gates", "Multiply gates into the weights next to them."),
    "prune": ("pgc_cli.prune", "Remove channels for good, by gates, by a file or by rank."),
    "bench": ("pgc_cli.bench", "Time models side by side, interleaved, in one run."),
    "ablate": ("pgc_cli.ablate", "Switch tensors off one by one and rank what that does to the score."),
    "importance": ("pgc_cli.importance", "Estimate from gradients what each tensor and channel is good for."),
    "learn-gates": ("pgc_cli.learn_gates", "Learn gates in [0, 1] that close what the task does not need."),
    "heatmap": ("pgc_cli.heatmap", "Draw what each tensor looks at in an image."),
    "report": ("pgc_cli.report", "Write one page on what a model is, what it looks at, and where it errs."),
    "demo": ("pgc_cli.demo", "Run optimize, ablate and heatmap on a shipped model and crops."),
}

cli = lazy_group(COMMANDS, "Clean, understand and shrink an image classifier, given as an .onnx file.")

if __name__ == "__main__":
    cli()
