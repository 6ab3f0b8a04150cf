"""Weights in and out: files that know their network, labels and preprocessing, released checkpoints, the hub.

`safetensors_file.py` is the format that everything else here reads or writes: one safetensors file with a `card.Card`
inside. `release.py` reads the authors' ``.pth`` files. `resample.py` starts one network from another's weights (other
clip length, resolution, classes), and `resize_clip.py` makes the same network one for other clips, images to videos
included. `hub.py` keeps weights as a folder that the Hugging Face hub understands, and `locate.py` finds a file by path
or hub id. `exported/` reads and runs what ``dualformer export`` made of weights, and `open_network.py` opens either.
"""
