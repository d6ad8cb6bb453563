"""The SQLite store: a board in one file that forgets nothing."""
