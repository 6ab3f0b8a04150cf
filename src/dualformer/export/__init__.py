"""Exports weights as programs of PyTorch and ExecuTorch, ONNX or OpenVINO models, in float32, bfloat16 or int8.

``export_weights`` makes and writes the program (``export_formats``, ``executorch_program``), quantises it if asked
(``quantize``), and compares it (``export_comparison``) with the weights on clips (``export_data``) before the file gets
its name. Reading and running the result is in `dualformer.weights.exported`.
"""
