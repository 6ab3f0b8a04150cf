"""Explains predictions by Grad-CAM and attention maps of one clip, drawn over its frames.

`explain_video` explains a video, `explanation` holds and draws the result, and `deletion_check` checks a map by
deleting its hottest places. Needs the extra ``explain``.
"""
