"""From weights and a file to labels.

Import from its modules: ``recognizer`` is all that most callers need; ``device`` chooses where it runs.
"""
