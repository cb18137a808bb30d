"""Engines other than TRL: their own processes, fed by us, whose results come back as ours."""
