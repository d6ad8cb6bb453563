"""Nouns: what lies on the board and what describes the work. Pure data, no effects."""
