"""Counts by the hour and by the day, kept by the database itself."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for statement in SCHEMA.split(";;\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE event_hours (
    hour INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    category_id SMALLINT NOT NULL,
    severity SMALLINT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (hour, source_id, category_id, severity)
) WITHOUT ROWID;;
INSERT INTO event_hours
    SELECT minute / 60, source_id, category_id, severity, sum(n) FROM event_minutes GROUP BY 1, 2, 3, 4;;
CREATE TRIGGER event_hours_added AFTER INSERT ON event_minutes BEGIN
    INSERT INTO event_hours VALUES (NEW.minute / 60, NEW.source_id, NEW.category_id, NEW.severity, NEW.n)
        ON CONFLICT (hour, source_id, category_id, severity) DO UPDATE SET n = n + excluded.n;
END;;
CREATE TRIGGER event_hours_changed AFTER UPDATE OF n ON event_minutes BEGIN
    UPDATE event_hours SET n = n + NEW.n - OLD.n WHERE hour = NEW.minute / 60 AND source_id = NEW.source_id
        AND category_id = NEW.category_id AND severity = NEW.severity;
END;;
CREATE TRIGGER event_hours_removed AFTER DELETE ON event_minutes BEGIN
    UPDATE event_hours SET n = n - OLD.n WHERE hour = OLD.minute / 60 AND source_id = OLD.source_id
        AND category_id = OLD.category_id AND severity = OLD.severity;
    DELETE FROM event_hours WHERE hour = OLD.minute / 60 AND source_id = OLD.source_id
        AND category_id = OLD.category_id AND severity = OLD.severity AND n <= 0;
END;;
CREATE TABLE address_days (
    day INTEGER NOT NULL,
    source_ip TEXT NOT NULL,
    category_id SMALLINT NOT NULL,
    n INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    successes INTEGER NOT NULL,
    PRIMARY KEY (day, source_ip, category_id)
) WITHOUT ROWID;;
INSERT INTO address_days
    SELECT slot / 144, source_ip, category_id, sum(n), sum(failures), sum(successes) FROM address_slots
    GROUP BY 1, 2, 3;;
CREATE TRIGGER address_days_added AFTER INSERT ON address_slots BEGIN
    INSERT INTO address_days
        VALUES (NEW.slot / 144, NEW.source_ip, NEW.category_id, NEW.n, NEW.failures, NEW.successes)
        ON CONFLICT (day, source_ip, category_id) DO UPDATE SET n = n + excluded.n,
        failures = failures + excluded.failures, successes = successes + excluded.successes;
END;;
CREATE TRIGGER address_days_changed AFTER UPDATE OF n ON address_slots BEGIN
    UPDATE address_days SET n = n + NEW.n - OLD.n, failures = failures + NEW.failures - OLD.failures,
        successes = successes + NEW.successes - OLD.successes
        WHERE day = NEW.slot / 144 AND source_ip = NEW.source_ip AND category_id = NEW.category_id;
END;;
CREATE TRIGGER address_days_removed AFTER DELETE ON address_slots BEGIN
    UPDATE address_days SET n = n - OLD.n, failures = failures - OLD.failures, successes = successes - OLD.successes
        WHERE day = OLD.slot / 144 AND source_ip = OLD.source_ip AND category_id = OLD.category_id;
    DELETE FROM address_days WHERE day = OLD.slot / 144 AND source_ip = OLD.source_ip
        AND category_id = OLD.category_id AND n <= 0;
END
"""
