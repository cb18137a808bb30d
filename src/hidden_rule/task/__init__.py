"""The decision task: rulesets, cases and their splits, suites, prompts, replies and their one parser, rewards."""
