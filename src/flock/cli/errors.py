"""What the command says when it can't do what was asked."""


class UsageError(Exception):
    """Raised when the command line, or what it names, has to be changed; the message says how."""
