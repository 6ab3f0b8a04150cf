"""Measures how good weights are: ``evaluate`` runs them on videos, ``evaluation_folder`` writes the results."""
