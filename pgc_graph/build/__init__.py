"""The PGC family written directly as ONNX graphs."""
