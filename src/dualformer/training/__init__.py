"""Training: what to train on what (`settings/`), the step (`objective.py`, `optimizer.py`), the loop (`loop.py`), and
what is kept so that an interrupted run goes on to the same bits (`checkpoint.py`)."""
