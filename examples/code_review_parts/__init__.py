"""The pure parts of the code review example: none of them knows Flock."""
