"""The short form of tests/torture.py: one experiment, killed twice."""

import torture
from conftest import SMOKE


def test_a_killed_experiment_ends_where_it_would_have_ended(smoke, tmp_path, monkeypatch):
    """In another folder, with the bytes of the run that nothing disturbed: a second run gives the same bytes too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = torture.fingerprints(smoke)
    assert len(torture.torture(1, tmp_path / "killed", SMOKE, expected, kills=2, longest_s=20)) == 2
