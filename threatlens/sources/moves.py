"""Files that were renamed, once or more, before they could be opened: where each is now."""

from __future__ import annotations

_MANY = 10_000  # names; then they are forgotten, and the next look finds what it can


class Moves:
    """Follows what inotify says about renames, from the first name to the last."""

    def __init__(self) -> None:
        self._leaving: dict[int, str] = {}  # cookie of a rename that was begun, and the first name
        self._now_at: dict[str, str] = {}  # path, and the first name

    def leaves(self, path: str, cookie: int, *, opened: bool) -> None:
        """A file has this name no longer. opened: it is followed already, so its next name matters to nobody here."""
        named = self._now_at.pop(path, "")
        if named or not opened:
            if len(self._leaving) >= _MANY:  # they left for folders that nobody watches
                self._leaving.clear()
            self._leaving[cookie] = named or path

    def arrives(self, path: str, cookie: int) -> str:
        """A file has this name from now on. Returns the first name of one that is looked after here, else ""."""
        self._now_at.pop(path, None)  # it was overwritten
        named = self._leaving.pop(cookie, "")
        if named:
            if len(self._now_at) >= _MANY:
                self._now_at.clear()
            self._now_at[path] = named
        return named

    def ends(self, path: str) -> str:
        """The file of this name is gone, or is looked after by others. Returns its first name, or ""."""
        return self._now_at.pop(path, "")

    def arrived(self) -> list[tuple[str, str]]:
        """(present path, first name) of each, in the order of their last renames."""
        return list(self._now_at.items())

    def forget(self) -> None:
        """Events were lost: nothing is sure any more."""
        self._leaving.clear()
        self._now_at.clear()
