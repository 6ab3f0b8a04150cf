"""What a signal does to a run, and what a second one does."""

import signal

import pytest

from dualformer.training.signals import Stop


def test_a_second_signal_stops_at_once():
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        assert stop.by_key and not stop.by_scheduler
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_launcher_passes_on_is_the_same_wish(monkeypatch: pytest.MonkeyPatch):
    stop = Stop(patient=True)
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.by_scheduler and not stop.by_key
        monkeypatch.setattr(Stop, "PATIENCE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
