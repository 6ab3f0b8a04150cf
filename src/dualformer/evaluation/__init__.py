"""How good weights are, and why.

Import from its modules: ``evaluate`` runs weights over labelled videos, ``metrics`` are the figures, ``report`` writes
them down with the pictures of ``drawing``, ``classes`` sees to it that labels mean the same on both sides.
"""
