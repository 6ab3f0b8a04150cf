"""Training: what to train on what (`config.py`), the step (`objective.py`, `optim.py`), the loop (`loop.py`), and what
is kept so that an interrupted run goes on to the same bits (`state.py`)."""
