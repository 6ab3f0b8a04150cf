"""Data sets in the layouts of other programs, read where they lie: Parquet and Arrow tables as Hugging Face has them,
folders with a list of metadata, LeRobot, FiftyOne, and tar files of WebDataset.

Each layout is one module that makes rows of it, like those of a CSV list, so that everything that reads lists reads it,
and each video has a name by which it is opened anywhere. ``layouts`` finds the one of a data set.
"""
