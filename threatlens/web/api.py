"""The API under /api/v1: which operations there are, and the gate that every request below /api and /ws goes through.

Nothing below /api answers without a valid token, not even that a path does not exist.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from threatlens.errors import ThreatLensError
from threatlens.web import (
    api_events,
    api_health,
    api_incidents,
    api_ingest,
    api_mutes,
    api_notifications,
    api_reports,
    api_search_schedules,
    api_sources,
    api_threat_lists,
    api_tokens,
    api_users,
)
from threatlens.web.auth import authenticate
from threatlens.web.openapi import document
from threatlens.web.operations import Operation, operation
from threatlens.web.problems import ProblemError, answer_problem

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
blueprint.register_error_handler(Exception, answer_problem)


@operation("GET", "/openapi.json", role="viewer", summary="This document")
def get_openapi() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return document(OPERATIONS, "1")


OPERATIONS: tuple[Operation, ...] = (
    api_events.list_events,
    api_events.export_events,
    api_events.get_event,
    api_events.get_stats,
    api_incidents.list_incidents,
    api_incidents.get_incident,
    api_incidents.change_incident,
    api_incidents.list_rules,
    api_incidents.change_rule,
    api_mutes.list_mutes,
    api_mutes.create_mute,
    api_mutes.end_mute,
    api_ingest.ingest,
    api_ingest.get_ingestion,
    api_sources.list_sources,
    api_sources.get_source,
    api_sources.create_source,
    api_sources.change_source,
    api_sources.delete_source,
    api_threat_lists.list_threat_lists,
    api_threat_lists.create_threat_list,
    api_threat_lists.refresh_threat_list,
    api_threat_lists.delete_threat_list,
    api_tokens.list_tokens,
    api_tokens.create_token,
    api_tokens.delete_token,
    api_users.list_users,
    api_users.get_user,
    api_users.create_user,
    api_users.change_user,
    api_users.delete_user,
    api_users.list_audit,
    api_notifications.list_channels,
    api_notifications.create_channel,
    api_notifications.change_channel,
    api_notifications.delete_channel,
    api_notifications.test_channel,
    api_notifications.list_notification_rules,
    api_notifications.create_notification_rule,
    api_notifications.change_notification_rule,
    api_notifications.delete_notification_rule,
    api_notifications.list_notifications,
    api_notifications.resend_notification,
    api_reports.list_reports,
    api_reports.get_daily_report,
    api_search_schedules.list_search_schedules,
    api_search_schedules.create_search_schedule,
    api_search_schedules.change_search_schedule,
    api_search_schedules.delete_search_schedule,
    api_search_schedules.send_search_schedule,
    api_health.get_health,
    get_openapi,
)
for _each in OPERATIONS:
    blueprint.add_url_rule(_each.path, _each.name, _each, methods=[_each.method], provide_automatic_options=False)


@blueprint.before_app_request
def check_program() -> Response | None:
    """Whose request below /api this is; what does not exist below /api and /ws is answered with a problem."""
    if not request.path.startswith(("/api/", "/ws/")):
        return None
    try:
        if request.path.startswith("/api/"):
            g.actor = authenticate()
            if request.endpoint and not isinstance(current_app.view_functions[request.endpoint], Operation):
                raise ProblemError(403, "This is not open to tokens.")
        if request.routing_exception is not None:
            raise request.routing_exception
    except (ThreatLensError, HTTPException) as error:
        return answer_problem(error)
    return None
