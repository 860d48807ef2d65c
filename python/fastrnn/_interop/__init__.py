"""Layers of other worlds: ONNX, Keras, plain arrays."""
