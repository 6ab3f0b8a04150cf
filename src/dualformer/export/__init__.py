"""Weights to models that run elsewhere: PyTorch programs, ONNX, OpenVINO; float32, bfloat16, int8.

``export_weights`` is what the verb calls: it makes the program (``view_network``), quantises it if asked
(``quantize``), writes it (``formats``), and runs both sides on clips (``export_data``) to say how far apart they are
(``parity``) before the file gets its name. ``accuracy_change`` says what int8 costs on labelled videos. What reads and
runs the result is `dualformer.weights.exported`.
"""
