"""What addresses did is kept by the quarter of a day instead of the day, so that either end of a day is few rows."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    for statement in SCHEMA.split(";;\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
DROP TRIGGER address_days_added;;
DROP TRIGGER address_days_changed;;
DROP TRIGGER address_days_removed;;
DROP TABLE address_days;;
CREATE TABLE address_quarters (
    quarter INTEGER NOT NULL,
    source_ip TEXT NOT NULL,
    category_id SMALLINT NOT NULL,
    n INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    successes INTEGER NOT NULL,
    PRIMARY KEY (quarter, source_ip, category_id)
) WITHOUT ROWID;;
INSERT INTO address_quarters
    SELECT slot / 36, source_ip, category_id, sum(n), sum(failures), sum(successes) FROM address_slots
    GROUP BY 1, 2, 3;;
CREATE TRIGGER address_quarters_added AFTER INSERT ON address_slots BEGIN
    INSERT INTO address_quarters
        VALUES (NEW.slot / 36, NEW.source_ip, NEW.category_id, NEW.n, NEW.failures, NEW.successes)
        ON CONFLICT (quarter, source_ip, category_id) DO UPDATE SET n = n + excluded.n,
        failures = failures + excluded.failures, successes = successes + excluded.successes;
END;;
CREATE TRIGGER address_quarters_changed AFTER UPDATE OF n ON address_slots BEGIN
    UPDATE address_quarters SET n = n + NEW.n - OLD.n, failures = failures + NEW.failures - OLD.failures,
        successes = successes + NEW.successes - OLD.successes
        WHERE quarter = NEW.slot / 36 AND source_ip = NEW.source_ip AND category_id = NEW.category_id;
END;;
CREATE TRIGGER address_quarters_removed AFTER DELETE ON address_slots BEGIN
    UPDATE address_quarters SET n = n - OLD.n, failures = failures - OLD.failures, successes = successes - OLD.successes
        WHERE quarter = OLD.slot / 36 AND source_ip = OLD.source_ip AND category_id = OLD.category_id;
    DELETE FROM address_quarters WHERE quarter = OLD.slot / 36 AND source_ip = OLD.source_ip
        AND category_id = OLD.category_id AND n <= 0;
END
"""
