"""Reads and writes what people mark in long recordings: which action happens from when to when."""
