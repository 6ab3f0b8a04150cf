"""Weights to models that run elsewhere: PyTorch programs, ONNX, OpenVINO; float32, bfloat16, int8.

``run.py`` is what the verb calls: it makes the program (``program.py``), quantises it if asked (``int8.py``), writes
it (``write.py``), and runs both sides on clips (``clips.py``) to say how far apart they are (``parity.py``) before the
file gets its name. ``accuracy.py`` says what int8 costs on labelled videos. What reads and runs the result is
`dualformer.weights.exported`.
"""
