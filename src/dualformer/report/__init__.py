"""An evaluation as one HTML page that needs nothing else: no network, no other file.

Import from its modules: ``plan`` says what is evaluated for it and is checked beforehand, ``content`` gathers what it
shows, ``clips`` makes its videos, ``page`` writes it.
"""
