"""Secrets at rest: what is stored is sealed with a key that is not in the database.

Every purpose has a key of its own, derived (HKDF-SHA-256) from the installation's one; AES-256-GCM seals, and binds a
secret to its purpose. A sealed text names its key by a few bits of a hash, so that several keys can be in use while
they are being changed. Keys are asked for whenever one is needed: a change is seen without a restart.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from threatlens.errors import SecretError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "sealed:1:"
_NONCE_BYTES = 12


class Vault:
    """Seals and opens secrets. `keys` are the installation's, the one in use first, older ones after it."""

    def __init__(self, keys: Callable[[], Sequence[str]]) -> None:
        self._keys = keys

    def seal(self, secret: str, purpose: str) -> str:
        """The secret as ASCII text that only open() with the same purpose can read."""
        key = self._keys()[0]
        nonce = os.urandom(_NONCE_BYTES)
        box = _cipher(key, purpose).encrypt(nonce, secret.encode("utf-8"), purpose.encode("utf-8"))
        return f"{PREFIX}{_name(key)}:{base64.urlsafe_b64encode(nonce + box).decode('ascii')}"

    def open(self, sealed: str, purpose: str) -> str:
        """The secret. Raises SecretError where none of the keys fits, or the text was changed."""
        name, _, text = sealed.removeprefix(PREFIX).partition(":")
        key = next((each for each in self._keys() if _name(each) == name), None)
        if key is None:
            msg = "a stored secret was sealed with a key that is gone; enter it again"
            raise SecretError(msg)
        from cryptography.exceptions import InvalidTag

        try:
            box = base64.b64decode(text, altchars=b"-_", validate=True)
            plain = _cipher(key, purpose).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            msg = "a stored secret is damaged; enter it again"
            raise SecretError(msg) from error
        return plain.decode("utf-8")

    def is_current(self, sealed: str) -> bool:
        """Whether the key in use sealed this text."""
        return sealed.startswith(f"{PREFIX}{_name(self._keys()[0])}:")


def is_sealed(text: str) -> bool:
    """Whether a stored text is a sealed secret."""
    return text.startswith(PREFIX)


def derived(key: str, purpose: str) -> bytes:
    """32 bytes for one purpose; of two purposes neither tells anything about the other."""
    extracted = hmac.digest(b"threatlens", key.encode("utf-8"), "sha256")
    return hmac.digest(extracted, purpose.encode("utf-8") + b"\x01", "sha256")  # RFC 5869: one block is all


def _cipher(key: str, purpose: str) -> AESGCM:
    # 7 MB, and most installations have no secret to open: only here.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(derived(key, purpose))


def _name(key: str) -> str:
    return hashlib.sha256(b"threatlens key name\0" + key.encode("utf-8")).hexdigest()[:8]
