"""Where an address is and whose network it is of, from files in MaxMind's format, where such are given.

Files of countries, cities and networks (ASN) are known by what their records hold. Private addresses are nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import maxminddb

from threatlens.errors import ConfigError
from threatlens.event import Decoded, Fields, FieldValue

SIDES = ("source", "destination", "client")
_MAX_KNOWN = 50_000


class Geo:
    """The files, open. Looks each address up once, and forgets all when there are many."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Raises ConfigError for a file that cannot be read."""
        self._readers = []
        for path in paths:
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
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[address] = {}
            for reader in self._readers:
                try:
                    record = reader.get(address)
                except (ValueError, maxminddb.InvalidDatabaseError):
                    continue
                if isinstance(record, dict):
                    known.update(geo_fields(record))
        return known

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers:
            reader.close()


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
