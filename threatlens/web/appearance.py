"""Light or dark, dense or comfortable, for browsers without scripts; with them the script sets the cookies itself."""

from __future__ import annotations

from flask import Blueprint, has_request_context, redirect, request
from werkzeug.wrappers import Response

from threatlens.web.auth import needs
from threatlens.web.presentation import theme

YEAR_S = 31_536_000

blueprint = Blueprint("appearance", __name__)


@blueprint.post("/appearance")
@needs("viewer", confined=True)
def switch() -> Response:
    """Change to the theme or the density asked for and go back to where the switch was used."""
    answer = redirect(local_path(request.form.get("next", "")), 303)
    chosen = request.form.get("theme", "")
    if chosen in ("light", "dark", "system") and chosen != theme():
        answer.set_cookie("theme", chosen, max_age=YEAR_S, samesite="Lax", secure=request.is_secure)
    dense = request.form.get("density", "")
    if dense in ("dense", "comfortable"):
        answer.set_cookie("density", dense, max_age=YEAR_S, samesite="Lax", secure=request.is_secure)
    return answer


def local_path(target: str) -> str:
    """The target if it is a path of this site, else the dashboard."""
    begins_here = target.startswith("/") and not target.startswith("//") and "\\" not in target
    if not begins_here or not target.isprintable():
        return f"{request.script_root}/" if has_request_context() else "/"
    return target
