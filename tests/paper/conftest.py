"""The fixtures of small runs, for all tests of this folder."""

from small_runs import drawn, settings, undrawn, videos

__all__ = ["drawn", "settings", "undrawn", "videos"]
