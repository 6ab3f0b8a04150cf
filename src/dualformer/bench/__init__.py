"""How fast the network is here, and how near to what the machine can do.

``machine.py`` describes the machine and finds its matrix-multiply peak. ``settings.py`` says what is to be measured,
``plan.py`` makes combinations of it, ``exports.py`` the exported models among them, and ``prepare.py`` makes one ready
to run. ``rounds.py`` lets works take turns; ``memory.py`` finds how much memory one work takes, in a process of its
own; ``end_to_end.py`` goes from a file to labels. ``measure.py`` puts them together, and ``table.py`` writes the result
as Markdown.
"""
