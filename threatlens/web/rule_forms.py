"""The forms of rules. Whether a text is a rule is decided by the library alone; the forms only know the fields."""

from __future__ import annotations

from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import RadioField, SelectChoice, StringField, TextAreaField

MAX_RULE_CHARS = 200_000

TEMPLATE = """title: What it finds, in few words
id: {id}
status: experimental
level: medium
logsource:
  product: linux
  service: sshd
detection:
  selection:
    event.action: ssh_login
    event.outcome: failure
  condition: selection
threatlens:
  explanation: '{{source.ip}} failed to log in as {{user.name}}.'
  recommendations:
    - 'Block it: `ufw insert 1 deny from {{source.ip}}`.'
"""


class RuleForm(FlaskForm):  # type: ignore[misc]
    """One file of rules."""

    name = StringField("File", description="In the folder rules/ of the data folder; letters, digits, . - _")
    text = TextAreaField("Sigma", description="One rule, or several documents with --- between them.")


class StateForm(FlaskForm):  # type: ignore[misc]
    """Off, observe, on."""

    state = RadioField(
        "State",
        choices=[
            SelectChoice("on", "On: it raises severity and incidents"),
            SelectChoice("observe", "Observe: it is counted and raises nothing"),
            SelectChoice("off", "Off: it does not run"),
        ],
    )


class ExceptionForm(FlaskForm):  # type: ignore[misc]
    """Events that a rule leaves out."""

    conditions = TextAreaField(
        "Where all of these fit", description="One a line: user.name = backup, source.ip = 192.0.2.*"
    )
    reason = StringField("Why")


class UploadForm(FlaskForm):  # type: ignore[misc]
    """Many rules at once."""

    archive = FileField("Rules as a zip")


class ListForm(FlaskForm):  # type: ignore[misc]
    """A list that rules expand."""

    name = StringField("Name", description="As rules write it between % signs.")
    entries = TextAreaField("Entries", description="One a line.")
