"""The page of evaluated cases: which are shown, what it holds of each, and the page itself."""
