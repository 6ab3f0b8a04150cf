"""Bytes to clips and back: decoding, choosing frames, cutting views, normalising.

Knows no model, no label and no command-line option. ``clip_reader`` ties the modules together; ``open_video``,
``sampling``, ``transforms`` and ``preprocessing`` are its parts, and ``encode`` writes videos.
"""
