"""Findings about a topology."""
from __future__ import annotations
from collections.abc import Iterable
from dataclasses import dataclass
from flock.core.agent import Agent
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """x"""
    kind: str
    message: str
def check(agents: Iterable[Agent]) -> list[Finding]:
    """x"""
    return []
