"""A pytest plugin: skipped tests are named and counted, and with --no-skips they fail the run.

A suite that skips in silence looks green where it has tested nothing. script/test loads this with -p.
With `-n` (pytest-xdist) a worker hands what it noted to the process that counts.
"""

from __future__ import annotations

from typing import Any

import pytest


class Skips:
    """Notes what was skipped; an expected failure (xfail) is not a skip."""

    def __init__(self, *, forbidden: bool) -> None:
        self.forbidden = forbidden
        self.reasons: dict[str, str] = {}  # node id -> why

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.reasons[report.nodeid] = reason.removeprefix("Skipped: ")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        handed_over = getattr(session.config, "workeroutput", None)  # in a worker alone
        if handed_over is not None:
            handed_over["skips"] = self.reasons
        elif (
            self.forbidden
            and self.reasons
            and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.reasons |= getattr(node, "workeroutput", {}).get("skips", {})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.reasons:
            return
        verdict = "a failure under --no-skips" if self.forbidden else "not tested here"
        terminalreporter.section(
            f"{len(self.reasons)} skipped: {verdict}", red=self.forbidden, yellow=not self.forbidden
        )
        for nodeid, reason in sorted(self.reasons.items()):
            terminalreporter.line(f"{nodeid}: {reason}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips(forbidden=config.getoption("--no-skips")), "skips")
