"""Engines: what turns inputs into outputs."""
