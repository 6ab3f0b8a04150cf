"""What a network goes by: Grad-CAM and attention of one clip, drawn over its frames.

Import from its modules: ``explain`` explains a video, ``explanation`` is what comes of it, ``deletion`` checks that it
is the network's. Needs the extra ``explain``.
"""
