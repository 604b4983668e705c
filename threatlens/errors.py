"""What can go wrong, named by who has to act.

Every error carries one sentence for a person; a caller that needs a fact to decide gets it as an attribute.
"""

from __future__ import annotations


class ThreatLensError(Exception):
    """The root of every error that ThreatLens raises on purpose; its text may be shown to a user."""


class SettingsError(ThreatLensError):
    """A deployment setting (environment, command line) cannot be used. Whoever starts the process must act."""


class DataFolderError(ThreatLensError):
    """The data folder or the database in it cannot be used. Whoever runs the machine must act."""


class ConfigError(ThreatLensError):
    """The configuration is wrong. Whoever edits it must act; the running configuration stays in force."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line  # from 1; 0: unknown
        self.column = column  # from 1; 0: unknown
        self.key = key  # dotted, as in "sources.0.path"

    def __str__(self) -> str:
        where = self.file
        if where and self.line:
            where += f":{self.line}" + (f":{self.column}" if self.column else "")
        parts = [part for part in (where, self.key, self.message) if part]
        return ": ".join(parts)


class SourceError(ThreatLensError):
    """A source cannot be read now. The operator must act; the remedy says how."""

    def __init__(self, message: str, *, state: str, remedy: str = "") -> None:
        super().__init__(message)
        self.state = state  # one of threatlens.event.SOURCE_STATES
        self.remedy = remedy  # a sentence or an exact command; empty: nothing to do but wait


class StoreUnavailable(ThreatLensError):
    """The database is busy, full or away. Nobody acts: the caller keeps what it has and tries again."""

    def __init__(self, message: str, *, reason: str = "busy") -> None:
        super().__init__(message)
        self.reason = reason  # busy, disk_full, away


class NotOurs(ThreatLensError):
    """A compare-and-set found that another writer has moved a stream's position: the batch is not ours to write."""

    def __init__(self, message: str, *, stream_ids: frozenset[int]) -> None:
        super().__init__(message)
        self.stream_ids = stream_ids


class QueryError(ThreatLensError):
    """A filter, a cursor or a page size asked for cannot be used. The client must act."""

    def __init__(self, message: str, *, field: str = "", column: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.field = field
        self.column = column  # where in a query it is, from 1; 0: nowhere in particular
        self.length = length  # characters that it is about


class QueryTimeout(ThreatLensError):
    """A query took longer than it may; the client should narrow it."""


class IngestError(ThreatLensError):
    """Data handed to the ingest interface cannot be taken. The client must act."""

    def __init__(self, message: str, *, status: int = 422, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status  # the HTTP status that says it
        self.retry_after_s = retry_after_s


class OutboundError(ThreatLensError):
    """A request to another machine got no answer, or may not be made. Its text never shows the URL, a secret maybe."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent  # True: it was refused here; trying again helps only once the configuration changes


class SecretError(ThreatLensError):
    """A stored secret cannot be read any more. The operator must enter it again, or bring back the key."""


class BackupError(ThreatLensError):
    """A backup cannot be made or restored. Whoever asked for it must act; nothing has been changed."""


class ReportError(ThreatLensError):
    """A report cannot be made. Whoever asked for it, or the operator, must act."""


class ChannelError(ThreatLensError):
    """A notification was not delivered."""

    def __init__(
        self, message: str, *, permanent: bool = False, retry_after_s: int = 0, transcript: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.permanent = permanent  # True: retrying cannot help until somebody changes the channel
        self.retry_after_s = retry_after_s  # what the other side asked for; 0: nothing
        self.transcript = transcript  # what was said, secrets masked


class RecordsError(ThreatLensError):
    """A file of records is damaged. Whoever named it must act."""


class StaleChange(ThreatLensError):
    """Somebody else changed the thing first. The person looks again and decides again."""


class AnswerError(ThreatLensError):
    """A link of a message does nothing, and why: unknown, expired, used, withdrawn, or the incident is gone."""


class RuleFileError(ThreatLensError):
    """A rule or a list cannot be saved. Whoever wrote it must act; nothing was changed."""


class DecoderError(ThreatLensError):
    """A decoder that somebody made cannot be used. Whoever made it must act."""
