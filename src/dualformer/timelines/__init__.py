"""Weights on long videos whose segments are known: how good their timelines are, and which settings make them better.

``evaluate_timelines`` reads and judges, ``search_settings`` finds settings on videos that are kept for it, and
``timeline_folder`` writes tables and a picture.
"""
