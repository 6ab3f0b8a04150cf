"""Labels videos: single files, folders, long videos and streams. ``recognizer`` is all that most callers need."""
