"""Base models and adapters: loading, tokens, the exact policy over the valid replies, decoding."""
