"""Serves a recogniser over HTTP and as a web page.

``service`` turns files into predictions under limits, ``app`` is the HTTP application over it, and ``server`` runs the
application. Needs the extra ``web``.
"""
