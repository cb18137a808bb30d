"""An experiment: its config and checks, its conditions and sweeps."""
