"""Exported models: reading and running what ``dualformer export`` wrote, behind one face.

``card.py`` is what such a model says of itself; ``files.py`` finds that in the three formats, and seals it so that a
changed file is noticed. ``runtime.py`` runs programs of PyTorch, ONNX and OpenVINO, foreign ones as well.
``network.py`` puts both together: uint8 views in, logits out.
"""
