"""Processes on one file: each holds a lock that ends with it, and a socket by which others wake it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flock.model.errors import StoreError

if sys.platform != "win32":
    import fcntl

_LONGEST: Final = 100  # bytes of a socket's address: systems take 103 or more
_SHOWN: Final = 16  # characters of a board's name in its sockets' names, which have to fit into an address


def _take(descriptor: int, *, wait: bool) -> bool | None:
    """Take a lock that ends with this process; False when another has it, None where there are no such locks."""
    if sys.platform == "win32":  # pragma: no cover - there leases alone say who is gone
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Presence:
    """That this process is there, until it ends or leaves."""

    def __init__(self, board: Path, token: str) -> None:
        """Take the lock, and listen."""
        self._board = board
        self.token = token
        self._lock = os.open(_lock_of(board, token), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _take(self._lock, wait=True)
        self.socket = _listen(_socket_of(board, token))

    def leave(self) -> None:
        """Give up the lock and the socket."""
        clean(self._board, self.token)
        self.abandon()

    def abandon(self) -> None:
        """Leave the lock and the socket to the process that has forked: they end with that alone."""
        os.close(self._lock)
        if self.socket is not None:
            self.socket.close()


def is_gone(board: Path, token: str) -> bool | None:
    """Say whether the process of a token has ended; None where that can't be told."""
    try:
        found = os.open(_lock_of(board, token), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise StoreError(f"the lock of another process can't be read: {error}") from error
    try:
        return _take(found, wait=False)
    finally:
        os.close(found)


def clean(board: Path, token: str) -> None:
    """Remove what a process has left beside the file."""
    for path in (_lock_of(board, token), _socket_of(board, token)):
        path.unlink(missing_ok=True)


def wake(board: Path, tokens: Iterable[str], sender: socket.socket | None) -> None:
    """Hint to other processes that something has changed; a hint that can't be delivered is lost."""
    if sender is None:
        return
    for token in tokens:
        try:
            with _address(_socket_of(board, token)) as address:
                sender.sendto(b"\0", address)
        except OSError:
            continue  # it is gone, or has hints enough


def _listen(path: Path) -> socket.socket | None:
    """Give a socket for hints; None where there can't be one, and others' work is seen a little later."""
    try:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except (AttributeError, OSError):
        return None
    try:
        with _address(path) as address:
            found.bind(address)
    except OSError:  # the file system has none, or the path is too long for a system without /proc
        found.close()
        return None
    return found


def _lock_of(board: Path, token: str) -> Path:
    return board.with_name(f"{board.name}-{token}.lock")


def _socket_of(board: Path, token: str) -> Path:
    return board.with_name(f"{board.name[:_SHOWN]}-{token}.wake")  # the token alone tells it from others


@contextmanager
def _address(path: Path) -> Generator[str]:
    """Give a socket's path in words that are short enough to be its address: through its folder, if need be."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
