"""Base models and adapters: preparation, loading, tokens, the exact policy over the valid replies, decoding."""
