"""The page on which visitors record clips of their own classes, train on them, and see them recognised live.

``class_clips`` keeps the clips in an ordinary folder per class, ``training_process`` trains on it in a process of its
own, ``trainer`` starts, stops and watches that process, and ``routes`` has the requests of the page, whose HTML, style
and code lie beside it. Needs the extras ``web`` and ``export``.
"""
