"""What an experiment will need before anything trains: preflight, estimates of time, memory and money."""
