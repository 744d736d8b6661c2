"""The `pgc-train` group: commands are listed here and imported only when they run, torch with them."""

from __future__ import annotations

from pgc_cli.lazy import lazy_group

__all__ = ["COMMANDS", "cli"]

COMMANDS = {
    "synth": ("pgc_train.commands.synth", "Draw labelled hand crops."),
    "to-parquet": ("pgc_train.commands.to_parquet", "Put labelled crops into one Parquet file, split by group."),
    "train": ("pgc_train.commands.train", "Fit a model on folders of crops."),
    "evaluate": ("pgc_train.commands.evaluate", "Score a checkpoint or an ONNX model on labelled crops."),
    "predict": ("pgc_train.commands.predict", "Write the probability of pointing of images to a CSV."),
    "export": ("pgc_train.commands.export", "Write a checkpoint as an ONNX graph, checked against torch."),
}

cli = lazy_group(COMMANDS, "Train a pointing classifier on crops of hands and write it as an .onnx file.")

if __name__ == "__main__":
    cli()
