"""Declaring agents: what users write, checked as they write it, and made into agents on the roster."""
