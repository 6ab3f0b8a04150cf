"""Weights in and out: files that know their network, labels and preprocessing, released checkpoints, the hub.

``native.py`` is the format that everything else here reads or writes: one safetensors file with a `card.Card` inside
(``reading.py`` opens it). ``release.py`` reads the authors' ``.pth`` files. ``resample.py`` starts one network from
another's weights (other clip length, resolution, classes), and ``recut.py`` makes the same network one for other clips,
images to videos included. ``hub.py`` keeps weights as a folder that the Hugging Face hub understands, ``locate.py``
finds a file by path or hub id, ``atomic.py`` replaces files without ever leaving half of one.
``exported/`` reads and runs what ``dualformer export`` made of weights, and ``open.py`` opens either.
"""
