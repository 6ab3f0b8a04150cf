"""Benchmarks as they are downloaded: their own annotation files, their own folders, nothing to convert.

One module for each layout; ``listing`` is what they share, ``names`` finds the layout for ``NAME:PATH``.
"""
