"""A finished adapter at work: exported, served, asked, watched."""
