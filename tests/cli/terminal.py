"""A command in a pseudo-terminal, for tests of typed input."""

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from time import monotonic

IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "triform", *sys.argv[1:]])
"""
"""Makes standard input the controlling terminal of the process, so that Ctrl-C sends a signal."""


class Terminal:
    """A pseudo-terminal runs a command."""

    def __init__(self, *arguments: str | Path) -> None:
        self._side, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *map(str, arguments)],
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb", "COLUMNS": "200"},
        )
        os.close(other)
        self._unread = ""

    def type(self, keys: str) -> None:
        os.write(self._side, keys.encode())

    def read_until(self, pattern: str) -> str:
        """Read up to the end of a match."""
        found = self._match(pattern, seconds=60)
        assert found, f"no {pattern!r} in {self._unread!r}"
        text, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return text

    def press_until(self, key: str, pattern: str) -> str:
        """Press a key until the answer comes: `input` loses a Ctrl-C during the reading of another Ctrl-C."""
        for _ in range(10):
            self.type(key)
            if self._match(pattern, seconds=3):
                break
        return self.read_until(pattern)

    def leave(self) -> int:
        """Wait until the command ends, and return the exit code."""
        while self._wait(60):
            pass
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._side)

    def _match(self, pattern: str, *, seconds: float) -> re.Match[str] | None:
        end = monotonic() + seconds
        while not (found := re.search(pattern, self._unread)):
            if not self._wait(end - monotonic()):
                return None
        return found

    def _wait(self, seconds: float) -> bool:
        if not select.select([self._side], [], [], max(seconds, 0))[0]:
            return False
        try:
            got = os.read(self._side, 65536)
        except OSError:  # Linux raises this after the far side has closed
            return False
        self._unread += got.decode(errors="replace")
        return bool(got)
