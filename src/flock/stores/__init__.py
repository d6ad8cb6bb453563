"""Stores: where boards live."""
