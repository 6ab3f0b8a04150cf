"""Annotations to samples: folders, lists, rendered videos; the torch data sets over them; checking files.

Import from its modules: ``splits`` opens the samples of a folder, CSV file, benchmark or shards, ``clip_datasets``
reads them for a loader, ``decode_check`` decodes all files and says which are bad, ``rendered`` draws videos.
"""
