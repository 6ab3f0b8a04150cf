"""Reads and writes weights: files with their network, labels and preprocessing, released checkpoints, the hub.

`safetensors_file.py` is the format that everything else here reads or writes: one safetensors file with a `card.Card`
inside. `release.py` reads the authors' ``.pth`` files, and `twins.py` ImageNet weights of Twins-SVT, to which
`layouts.py` gives the paper's pyramid. `resample.py` fits weights to a network of other clips or classes, and
`resize_clip.py` fits a network to other clips, images to videos included. `hub.py` writes the folder of the Hugging
Face hub, and `locate.py` finds a file by path or hub id. `exported/` reads and runs exported models, and
`open_network.py` opens either.
"""
