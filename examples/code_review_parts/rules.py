"""What each kind of finding means: its category, how much it matters and how long a repair takes."""

from typing import NamedTuple

from .model import Category, Finding, Severity


class Rule(NamedTuple):
    """The fixed facts of a kind of finding."""

    category: Category
    severity: Severity
    minutes: int


RULES: dict[str, Rule] = {
    "syntax-error": Rule("correctness", "high", 15),
    "unreadable": Rule("correctness", "medium", 15),
    "undefined-name": Rule("correctness", "high", 10),
    "mutable-default": Rule("correctness", "medium", 5),
    "bare-except": Rule("correctness", "medium", 10),
    "broad-except": Rule("correctness", "low", 15),
    "silenced-error": Rule("correctness", "medium", 10),
    "assert-on-tuple": Rule("correctness", "high", 5),
    "none-comparison": Rule("correctness", "low", 2),
    "return-in-finally": Rule("correctness", "high", 15),
    "blocking-sleep": Rule("correctness", "high", 5),
    "long-function": Rule("design", "medium", 45),
    "deep-nesting": Rule("design", "medium", 30),
    "many-parameters": Rule("design", "low", 30),
    "long-file": Rule("design", "low", 90),
    "missing-docstrings": Rule("documentation", "low", 15),
    "unused-import": Rule("tidiness", "low", 2),
    "unfinished": Rule("tidiness", "low", 30),
    "complex-function": Rule("complexity", "medium", 40),
    "very-complex-function": Rule("complexity", "high", 90),
}

# Several analysers know these; one name for each makes what two of them found one finding.
ALIASES = {
    "ASYNC251": "blocking-sleep",
    "B006": "mutable-default",
    "B012": "return-in-finally",
    "B110": "silenced-error",
    "BLE001": "broad-except",
    "E711": "none-comparison",
    "E722": "bare-except",
    "F401": "unused-import",
    "F631": "assert-on-tuple",
    "F821": "undefined-name",
    "S110": "silenced-error",
}


def found(rule: str, line: int, message: str, by: str) -> Finding:
    """Make a finding of a known rule."""
    return unlisted(rule, RULES[rule], line, message, by)


def unlisted(name: str, rule: Rule, line: int, message: str, by: str) -> Finding:
    """Make a finding of a rule that only its tool knows."""
    return Finding(
        rule=name,
        category=rule.category,
        severity=rule.severity,
        line=max(line, 1),
        message=" ".join(message.split()),
        minutes=rule.minutes,
        found_by=(by,),
    )
