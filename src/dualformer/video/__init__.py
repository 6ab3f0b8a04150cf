"""Bytes to clips: decoding, choosing frames, cutting views, normalising. Knows no model and no data set.

Import from its modules: ``clips`` ties them together; ``decode``, ``encode``, ``sampling``, ``transforms`` and
``preprocessing`` are its parts.
"""
