"""The short form of tests/torture.py: one experiment, killed twice."""

import torture


def test_a_killed_experiment_ends_where_it_would_have_ended(smoke, tmp_path):
    torture.torture(1, tmp_path / "killed", torture.fingerprints(smoke), kills=2, longest_s=90)
