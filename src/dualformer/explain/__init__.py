"""What a network goes by: Grad-CAM and attention of one clip, drawn over its frames.

Import from its modules: `explain_video` explains a video, `explanation` is what comes of it, `deletion_check` checks
that it shows what the network goes by. Needs the extra ``explain``.
"""
