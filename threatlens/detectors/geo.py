"""Where an address is and whose network it is of, from files in MaxMind's format, where such are given.

Files of countries, cities and networks (ASN) are known by what their records hold. Private addresses are nowhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from threatlens.errors import ConfigError
from threatlens.event import Decoded, Fields, FieldValue

SIDES = ("source", "destination", "client")
_MAX_KNOWN = 50_000
#: Seconds between two looks at a folder.
LOOK_S = 5.0


class Geo:
    """The files, open. Looks each address up once, and forgets all when there are many."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Raises ConfigError for a file that cannot be read."""
        self._readers: list[Any] = []
        for path in paths:
            import maxminddb  # most installations have no such file, and it brings 1.3 MB along

            try:
                self._readers.append(maxminddb.open_database(path))
            except (OSError, maxminddb.InvalidDatabaseError, ValueError) as error:
                raise ConfigError(f"is not a file in MaxMind's format: {error}", file=path) from error
        self._known: dict[str, dict[str, FieldValue]] = {}

    def enrich(self, decoded: Decoded) -> None:
        """Add what is known about the addresses of an event to its fields, unless it is there."""
        fields = decoded.fields
        for side in SIDES:
            address = fields.get(side + ".ip")
            if isinstance(address, str):
                for name, value in self.of_address(address).items():
                    fields.setdefault(f"{side}.{name}", value)

    def of_address(self, address: str) -> Mapping[str, FieldValue]:
        """geo.country_iso_code, as.number, ... of an address; empty for one that is in no file."""
        known = self._known.get(address)
        if known is None:
            known = {}
            for reader in self._readers:
                try:
                    record = reader.get(address)
                except (ValueError, RuntimeError):  # no address, or a damaged file
                    continue
                if isinstance(record, dict):
                    known.update(geo_fields(record))
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[address] = known
        return known

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers:
            reader.close()


class GeoFolder:
    """The files of a folder, opened again when they change. May be asked by several threads."""

    def __init__(self, folder: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_s = float("-inf")
        self._files: tuple[tuple[str, int, int], ...] = ()
        self._geo: Geo | None = None
        self.error = ""  # why a file cannot be used; "" while all can

    def enrich(self, decoded: Decoded) -> Decoded:
        """The same event, with what is known about its addresses."""
        geo = self.current()
        if geo is not None:
            geo.enrich(decoded)
        return decoded

    def current(self) -> Geo | None:
        """The files as they are now, or were some seconds ago; None without one that can be read."""
        if self._monotonic() - self._looked_s > LOOK_S:
            with self._lock:
                self._looked_s = self._monotonic()
                self._look()
        return self._geo

    @property
    def files(self) -> tuple[tuple[str, int, int], ...]:
        """(path, time in ns, bytes) of each file that is in use."""
        self.current()
        return self._files

    def _look(self) -> None:
        try:
            entries = sorted(os.scandir(self._folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            entries = []
        found = tuple(
            (entry.path, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in entries
            if entry.name.endswith(".mmdb") and entry.is_file()
        )
        if found == self._files:
            return
        self._files, self.error = found, ""
        readable = []
        for path, _, _ in found:
            try:
                Geo([path]).close()
                readable.append(path)
            except ConfigError as error:
                self.error = str(error)
        self._geo = Geo(readable) if readable else None


def geo_fields(record: Mapping[str, Any]) -> Fields:
    """The ECS fields, without the side they are of, that a record of such a file means."""
    fields: Fields = {}
    for name, path in (
        ("geo.country_iso_code", ("country", "iso_code")),
        ("geo.country_name", ("country", "names", "en")),
        ("geo.continent_code", ("continent", "code")),
        ("geo.city_name", ("city", "names", "en")),
        ("as.number", ("autonomous_system_number",)),
        ("as.organization.name", ("autonomous_system_organization",)),
    ):
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str | int) and not isinstance(value, bool):
            fields[name] = value
    location = record.get("location")
    if isinstance(location, Mapping):
        for name, key in (("geo.location.lat", "latitude"), ("geo.location.lon", "longitude")):
            if isinstance(location.get(key), float):
                fields[name] = location[key]
    return fields
