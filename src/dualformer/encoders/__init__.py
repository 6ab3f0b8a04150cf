"""Frozen encoders of others as teachers: their features, once for all trainings, and a probe that reads classes off."""
