"""Data sets in tar files: large sequential files in place of hundreds of thousands of small ones, here or at a URL.

The tar files follow the WebDataset layout (``000000123.mp4``, ``.cls``, ``.json``), so that other programs read them
too. What this package reads is an index beside them that says where each video lies. That makes any video of any shard
a random read, and so a data set of shards is one like any other: the same samples in the same order as the files they
were made from, clips drawn from (seed, epoch, index) alone, an exact place to resume at.

Libraries that stream shards are not used to read: ``webdataset`` cannot resume at an exact place (its issues 177, 234
and 271), ``litdata`` and ``mosaicml-streaming`` have formats of their own and need torchvision, ``torchdata`` is not
released any more. ``fsspec``, which comes with PyTorch and the hub's client, reads the bytes wherever they are.
"""
