"""From a trained torch module to a static-shape ONNX graph in a verified bundle: a readable list of small passes."""
