"""Measures how fast the network is here, and how near to what the machine can do.

``bench_settings`` says what is measured, ``measurement`` measures it, and ``table`` writes the result as Markdown. What
`torch.utils.benchmark` times is the mean of a block of runs; here every run counts, in turns, for the 95th percentile.
"""
