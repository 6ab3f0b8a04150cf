"""What a result is worth and what it looks like, for whoever measures: intervals and pictures."""
