"""An hour knows between which ids its events lie, as a minute does."""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    for statement in SCHEMA.split(";;\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
DROP TRIGGER event_hours_added;;
DROP TRIGGER event_hours_changed;;
ALTER TABLE event_hours ADD COLUMN first_id INTEGER NOT NULL DEFAULT 0;;
ALTER TABLE event_hours ADD COLUMN last_id INTEGER NOT NULL DEFAULT 0;;
UPDATE event_hours SET
    first_id = (SELECT min(m.first_id) FROM event_minutes m WHERE m.minute >= event_hours.hour * 60
        AND m.minute < event_hours.hour * 60 + 60 AND m.source_id = event_hours.source_id
        AND m.category_id = event_hours.category_id AND m.severity = event_hours.severity),
    last_id = (SELECT max(m.last_id) FROM event_minutes m WHERE m.minute >= event_hours.hour * 60
        AND m.minute < event_hours.hour * 60 + 60 AND m.source_id = event_hours.source_id
        AND m.category_id = event_hours.category_id AND m.severity = event_hours.severity);;
CREATE TRIGGER event_hours_added AFTER INSERT ON event_minutes BEGIN
    INSERT INTO event_hours VALUES
        (NEW.minute / 60, NEW.source_id, NEW.category_id, NEW.severity, NEW.n, NEW.first_id, NEW.last_id)
        ON CONFLICT (hour, source_id, category_id, severity) DO UPDATE SET n = n + excluded.n,
        first_id = min(event_hours.first_id, excluded.first_id), last_id = max(event_hours.last_id, excluded.last_id);
END;;
CREATE TRIGGER event_hours_changed AFTER UPDATE OF n ON event_minutes BEGIN
    UPDATE event_hours SET n = n + NEW.n - OLD.n, last_id = max(last_id, NEW.last_id) WHERE hour = NEW.minute / 60
        AND source_id = NEW.source_id AND category_id = NEW.category_id AND severity = NEW.severity;
END
"""
