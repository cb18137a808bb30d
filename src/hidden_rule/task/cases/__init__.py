"""Past decisions as a file: reading, types of columns, findings, splits, and the ruleset that is made of them."""
