"""Verbs: match, collect, publish, schedule, execute. Use the names in `flock`; these are for those who extend it."""
