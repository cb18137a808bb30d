"""Which training method teaches a language model a rule that nobody wrote down, and at what price."""
