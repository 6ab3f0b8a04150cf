"""Benchmarks as they are downloaded: their own annotation files, their own folders, nothing to convert.

Each layout is a module with a record ``BENCHMARK``, which `find_benchmark` finds; `annotations` is what they share.
"""
