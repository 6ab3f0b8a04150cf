"""A recogniser over HTTP, and as a web page.

``service`` is what both are made of: files in, answers out, under limits. ``app`` puts HTTP around it, ``server`` runs
that. Needs the extra ``web``.
"""
