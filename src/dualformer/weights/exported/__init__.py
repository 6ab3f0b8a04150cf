"""Reads and runs exported models.

``export_card.py`` is the metadata of such a model; ``exported_files.py`` reads it in the three formats and
checks its digest. ``runtime.py`` runs programs of PyTorch, ONNX and OpenVINO, also those of other origin.
``exported_network.py`` runs an exported model as a network: uint8 views in, logits out.
"""
