"""Passwords: which are taken, and how they are kept (Argon2id).

There are no rules about kinds of characters: length counts, and how soon somebody who knows the lists of common
passwords, keyboards and our own names would have guessed it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from threatlens.errors import ConfigError

MIN_LENGTH, MAX_LENGTH = 12, 128  # characters
#: What can be guessed within so many tries (as a power of ten) is too weak.
MIN_GUESSES_LOG10 = 6.0
#: Characters that are rated; the cost of rating grows with the length, and so many are strong anyway.
RATED = 64
#: Hashes computed at once: each takes memory and a core.
AT_ONCE = 2


def check_password(password: str, context: Sequence[str] = ()) -> None:
    """Raise ConfigError (key "password") with what is wrong; context: words an attacker would try first."""
    # A third of a megabyte of words: only when a password is set.
    from zxcvbn import zxcvbn  # noqa: PLC0415

    if len(password) < MIN_LENGTH:
        raise ConfigError(f"the password must have at least {MIN_LENGTH} characters; 15 or more are better",
                          key="password")  # fmt: skip
    if len(password) > MAX_LENGTH:
        raise ConfigError(f"the password must have at most {MAX_LENGTH} characters", key="password")
    if any(0xD800 <= ord(character) < 0xE000 for character in password):
        raise ConfigError("the password holds half a character", key="password")
    words = [word for word in ("threatlens", "threat", "lens", *context) if word]
    rated = zxcvbn(password[:RATED], user_inputs=words)
    if float(rated["guesses_log10"]) < MIN_GUESSES_LOG10:
        raise ConfigError("the password is among the first that an attacker tries; take a few unrelated words",
                          key="password")  # fmt: skip


class Passwords:
    """Makes and checks hashes, a few at a time."""

    def __init__(self, memory_kib: int, time_cost: int) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._nobody = ""  # a hash at our cost, made when first needed

    def hash(self, password: str) -> str:
        """The hash to keep, with its salt and cost in it."""
        with self._turns:
            return self._hasher.hash(password)

    def matches(self, kept: str | None, password: str) -> bool:
        """Whether this is the password; takes as long for an account that does not exist (None)."""
        if len(password) > MAX_LENGTH:
            return False
        self._nobody = self._nobody or self.hash("nobody has this password")  # whoever asks first waits for it
        with self._turns:
            try:
                self._hasher.verify(self._nobody if kept is None else kept, password)
            except (VerificationError, InvalidHashError, UnicodeEncodeError):
                return False
        return kept is not None

    def is_outdated(self, kept: str) -> bool:
        """Whether it was made at another cost than hashes are made now."""
        return self._hasher.check_needs_rehash(kept)
