"""The developer's menu (script/*, .ci/run), run in a copy of the project with stand-in interpreters on the PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SCRIPTS = ("bootstrap", "server", "test", "lint", "lock", "sbom", "audit", "bench")
COMMANDS = ("sh", "bash", "env", "cat", "cmp", "cp", "dirname", "grep", "id", "mkdir", "mktemp", "rm", "timeout")

# A stand-in for an interpreter: it notes how it was called, and "makes" environments that hold itself.
# Only the lock of script/bootstrap is run by a real Python.
PYTHON = """#!/bin/sh
case "$1 ${2:-}" in
"-V "*) echo "Python @version@"; exit 0 ;;
*version_info*) exit @old@ ;;
*"import ensurepip"*) exit @no_venv@ ;;
*fcntl*) exec @real@ "$@" ;;
"-m compileall") echo "$*" >>"$CALLS.compiled"; exit 1 ;;
esac
echo "${0##*/} $*" >>"$CALLS"
case "$*" in
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip"*) eval "${PIP_DOES:-}" ;;
"-m ruff check"*) exit "${RUFF_EXITS:-0}" ;;
esac
"""


class Project:
    """A copy of the scripts beside tiny requirements, and a PATH on which only the chosen interpreters stand."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.env = {"PATH": str(self.bin), "CALLS": str(self.calls_file)}
        self.bin.mkdir()
        (self.root / ".ci").mkdir(parents=True)
        shutil.copytree(ROOT / "script", self.root / "script")
        shutil.copy(ROOT / ".ci" / "run", self.root / ".ci" / "run")
        (self.root / "requirements.lock").write_text("flask==1 --hash=sha256:aa\n")
        (self.root / "requirements-dev.lock").write_text("flask==1 --hash=sha256:aa\npytest==1 --hash=sha256:bb\n")
        for command in COMMANDS:
            found = shutil.which(command)
            assert found, command
            (self.bin / command).symlink_to(found)

    def command(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name: str, *, version: str = "3.12.1", venv: bool = True) -> None:
        old = tuple(map(int, version.split("."))) < (3, 11)
        text = PYTHON.replace("@version@", version).replace("@old@", str(int(old)))
        self.command(name, text.replace("@no_venv@", str(int(not venv))).replace("@real@", sys.executable))

    def start(self, script: str, *options: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / script), *options],
            cwd=cwd or self.root.parent,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *options: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
        with self.start(script, *options, cwd=cwd, **env) as process:
            out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    @property
    def calls(self) -> list[str]:
        """How the stand-ins were called since the last look."""
        calls = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return calls


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def pip(requirements: str) -> str:
    lock = requirements.replace(".txt", ".lock")
    return f"python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement {lock}"


def test_the_first_run_makes_the_environment_and_hands_all_options_on(project: Project) -> None:
    project.python("python3.12")

    status, _, err = project.run("script/server", "--demo", "--port", "80 80")

    assert (status, project.calls) == (
        0,
        ["python3.12 -m venv .venv", pip("requirements.txt"), "python -m threatlens serve --demo --port 80 80"],
    )
    assert "requirements.txt" in err


def test_the_second_run_goes_straight_to_its_work(project: Project) -> None:
    project.python("python3.12")
    project.run("script/server")
    _ = project.calls

    status, _, err = project.run("script/server")

    assert (status, project.calls, err) == (0, ["python -m threatlens serve"], "")


def test_every_start_finds_its_code_compiled_and_one_that_cannot_be_is_no_obstacle(project: Project) -> None:
    project.python("python3.12")
    for _ in range(2):
        assert project.run("script/server")[0] == 0

    compiled = project.calls_file.with_suffix(".compiled").read_text().splitlines()
    assert compiled == ["-m compileall -q threatlens wsgi.py gunicorn.conf.py"] * 2


def test_a_changed_requirements_file_is_installed_again(project: Project) -> None:
    project.python("python3.12")
    project.run("script/server")
    (project.root / "requirements.lock").write_text("flask==2 --hash=sha256:cc\n")
    _ = project.calls

    project.run("script/server")

    assert pip("requirements.txt") in project.calls


def test_the_tests_share_the_environment_and_serve_from_it_afterwards(project: Project) -> None:
    project.python("python3.12")

    project.run("script/test", "-k", "a or b")
    first = project.calls
    project.run("script/server")

    assert first[1:] == [pip("requirements-dev.txt"), "python -m pytest -p tests.no_skips -k a or b"]
    assert project.calls == ["python -m threatlens serve"]


def test_a_change_of_what_runs_reaches_the_tests_too(project: Project) -> None:
    project.python("python3.12")
    project.run("script/test")
    (project.root / "requirements.lock").write_text("flask==2 --hash=sha256:cc\n")
    project.run("script/server")
    _ = project.calls

    project.run("script/test")

    assert pip("requirements-dev.txt") in project.calls


def test_a_failed_installation_is_said_and_tried_again(project: Project) -> None:
    project.python("python3.12")

    status, _, err = project.run("script/server", PIP_DOES="exit 3")
    assert status == 1
    assert "Installing requirements.txt failed" in err
    assert not [call for call in project.calls if "threatlens" in call]

    project.run("script/server")
    assert pip("requirements.txt") in project.calls


def test_two_at_once_install_once(project: Project, tmp_path: Path) -> None:
    project.python("python3.12")
    begun, go = tmp_path / "begun", tmp_path / "go"
    os.mkfifo(begun)
    os.mkfifo(go)
    pip_does = f"echo begun >{begun}; cat {go}"

    with (
        project.start("script/server", PIP_DOES=pip_does) as first,
        begun.open(),  # the first is inside pip now
        project.start("script/test", PIP_DOES=pip_does) as second,
    ):
        assert second.stderr is not None
        assert "Waiting" in second.stderr.readline()
        assert project.calls == ["python3.12 -m venv .venv", pip("requirements.txt")]
        go.write_text("")
        first.communicate(timeout=300)
        with begun.open():
            go.write_text("")
        second.communicate(timeout=300)

    assert (first.returncode, second.returncode) == (0, 0)
    assert project.calls.count(pip("requirements-dev.txt")) == 1


def test_an_environment_with_a_dead_interpreter_is_made_anew(project: Project) -> None:
    project.python("python3.12")
    (project.root / ".venv" / "bin").mkdir(parents=True)
    (project.root / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    (project.root / ".venv" / "installed-requirements.txt").write_text("flask==1 --hash=sha256:aa\n")

    project.run("script/server")

    assert project.calls[0] == "python3.12 -m venv --clear .venv"


def test_the_newest_usable_interpreter_is_taken(project: Project) -> None:
    project.command("python3.13", "#!/bin/sh\nexit 127\n")  # a version manager's shim with nothing behind it
    project.python("python3.12", venv=False)
    project.python("python3.11", version="3.11.2")
    project.python("python3", version="3.9.2")

    status, _, _ = project.run("script/server")

    assert status == 0
    assert project.calls[0] == "python3.11 -m venv .venv"


@pytest.mark.parametrize(
    ("name", "version", "venv", "sentence"),
    [
        ("python3", "3.9.2", True, "ThreatLens needs Python 3.11 or newer. python3 is Python 3.9.2."),
        ("ruby", "3.3.0", True, "ThreatLens needs Python 3.11 or newer. None was found."),
        ("python3", "3.11.2", False, "On Debian and Ubuntu: sudo apt install python3-venv"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    project: Project, name: str, version: str, venv: bool, sentence: str
) -> None:
    project.python(name, version=version, venv=venv)

    status, out, err = project.run("script/server")

    assert (status, out, project.calls) == (1, "", [])
    assert sentence in err
    assert not (project.root / ".venv").exists()


def test_a_relative_data_folder_is_the_callers(project: Project, tmp_path: Path) -> None:
    project.python("python3.12")
    project.run("script/server")
    serve = '#!/bin/sh\ncase $* in *"-m threatlens"*) echo "$THREATLENS_DATA" ;; esac\n'
    (project.root / ".venv" / "bin" / "python").write_text(serve)

    assert project.run("script/server", cwd=tmp_path, THREATLENS_DATA="data")[1] == f"{tmp_path}/data\n"
    assert project.run("script/server", cwd=tmp_path, THREATLENS_DATA="/srv/data")[1] == "/srv/data\n"


def test_the_linters_all_run_and_one_complaint_fails(project: Project) -> None:
    project.python("python3.12")
    project.run("script/lint")
    _ = project.calls

    status, _, _ = project.run("script/lint", RUFF_EXITS="1")

    assert status == 1
    assert project.calls == ["python -m ruff check .", "python -m ruff format --check .", "python -m mypy"]


def test_a_fresh_clone_gets_a_working_environment(project: Project) -> None:
    (project.bin / "python3").symlink_to(sys.executable)
    (project.root / "requirements.lock").write_text("# nothing\n")

    status, _, err = project.run("script/bootstrap")

    assert status == 0, err
    answer = subprocess.run(
        [str(project.root / ".venv" / "bin" / "python"), "-c", "import sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == str(project.root / ".venv")


def normal(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name: str) -> set[str]:
    """What a requirements file pins, with what it includes; names as indexes write them."""
    found: set[str] = set()
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= pinned(line[3:].strip())
        elif match := re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line):
            found.add(f"{normal(match[1])}=={match[2]}")
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_lock_files_hold_the_pinned_versions_with_hashes_and_nothing_else(name: str) -> None:
    text = (ROOT / f"{name}.lock").read_text(encoding="utf-8")

    assert pinned(f"{name}.lock") == pinned(f"{name}.txt"), "run script/lock"
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    unlike = [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==\S+( +--hash=sha256:[0-9a-f]{64})+ *", line)]
    assert unlike == [], "a lock file names no index and holds nothing without a hash"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_whatever_is_pinned_needs_is_pinned_with_it(name: str) -> None:
    """There are hashes for all that is installed, or nothing is installed."""
    names = {each.partition("==")[0] for each in pinned(name)}
    needed = {
        normal(wanted.name)
        for each in names
        for wanted in map(Requirement, distribution(each).requires or ())
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    }
    assert needed - names == set()


def test_the_list_of_components_covers_whatever_is_pinned_with_licences_and_who_needs_it() -> None:
    text = (ROOT / "sbom.cdx.json").read_text(encoding="utf-8")
    listed = json.loads(text)

    components = listed["components"]
    refs = {each["bom-ref"]: f"{normal(each['name'])}=={each['version']}" for each in components}
    assert listed["bomFormat"] == "CycloneDX"
    assert set(refs.values()) == pinned("requirements.lock"), "run script/sbom"
    assert {each["purl"] for each in components} == {
        f"pkg:pypi/{normal(each['name'])}@{each['version']}" for each in components
    }
    needed = {each["ref"]: set(each.get("dependsOn", ())) for each in listed["dependencies"]}
    for ref, name in refs.items():
        wanted = {
            normal(one.name)
            for one in map(Requirement, distribution(name.partition("==")[0]).requires or ())
            if one.marker is None or one.marker.evaluate({"extra": ""})
        }
        assert wanted <= {refs[one].partition("==")[0] for one in needed[ref]}, name
    unlicensed = {each["name"] for each in components if not each.get("licenses")}
    assert unlicensed <= {"ahocorasick_rs"}, "its file of metadata names none; its licence is Apache-2.0"
    assert "file:" not in text


@pytest.mark.parametrize(
    ("pip", "says", "exits", "status", "told"),
    [
        (0, "", 0, 0, ""),
        (0, "flask 1 GHSA-1 2", 1, 1, ""),
        (0, "", 1, 3, "the advisories could not be asked (the reason is above): nothing is known about 2 pinned"),
        (1, "", 0, 3, "pip-audit could not be installed: nothing was asked"),
    ],
)
def test_an_audit_says_when_nobody_could_be_asked(
    project: Project, pip: int, says: str, exits: int, status: int, told: str
) -> None:
    stand_in = f"""#!/bin/sh
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip) exit {pip} ;;
pip_audit) printf '%s' '{says}'; exit {exits} ;;
esac
"""
    project.command("python3", stand_in)

    found, out, err = project.run("script/audit")

    assert (found, out.strip()) == (status, says)
    assert told in err
    assert bool(told) == bool(err)


def test_what_is_pinned_and_dangerous_is_never_loaded(tmp_path: Path) -> None:
    """diskcache, which pySigma needs for what we do not use, reads pickles from its folder."""
    checks = ["threatlens", "rules", "check", str(ROOT / "threatlens" / "rules" / "ssh")]
    program = (
        "import runpy, sys\n"
        "sys.modules['diskcache'] = None  # to import it is an error\n"
        f"sys.argv = {checks!r}\n"
        "runpy.run_module('threatlens', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "THREATLENS_DATA": str(tmp_path / "data")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "loaded" in done.stdout


@pytest.mark.parametrize("script", [*(f"script/{name}" for name in SCRIPTS), ".ci/run"])
def test_scripts_parse_and_may_be_run(script: str) -> None:
    path = ROOT / script
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"

    assert os.access(path, os.X_OK)
    assert subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False).stderr == ""
    shellcheck = shutil.which("shellcheck")
    if shellcheck:
        assert subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False).stdout == ""


def ci(project: Project, *, installed: int, lint: int = 0, test: int = 0) -> tuple[int, str, list[str]]:
    """Run .ci/run among stand-ins: (exit status, output, the commands it gave)."""
    note = '#!/bin/sh\necho "${0##*/} $*" >>"$CALLS"\n'
    project.command("apt-get", note)
    project.command("sudo", '#!/bin/sh\necho "sudo" >>"$CALLS"; shift; exec "$@"\n')
    project.command(
        "dpkg-query",
        f"#!/bin/sh\ni=0; while [ $i -lt {installed} ]; do echo 'install ok installed'; i=$((i + 1)); done; true\n",
    )
    for name, status in (("lint", lint), ("test", test)):
        script = project.root / "script" / name
        script.write_text(f"{note}exit {status}\n")
    result, out, err = project.run(".ci/run")
    return result, out + err, [call for call in project.calls if call != "sudo"]


PACKAGES = re.search(r"^packages=\((.+)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)[1].split()
TESTED = "test --no-skips -n auto --dist loadfile --no-loadscope-reorder"
INSTALL = f"apt-get install --quiet --yes --no-install-recommends {' '.join(PACKAGES)}"


def test_ci_installs_what_tests_drive_then_lints_and_tests_without_skips(project: Project) -> None:
    assert ci(project, installed=2)[::2] == (
        0,
        ["apt-get update --quiet", INSTALL, "lint ", TESTED],
    )


def test_ci_installs_nothing_twice(project: Project) -> None:
    assert ci(project, installed=len(PACKAGES))[::2] == (0, ["lint ", TESTED])


@pytest.mark.parametrize(("lint", "test", "named"), [(1, 0, "script/lint"), (0, 1, "script/test")])
def test_ci_fails_by_name_when_a_part_fails_and_still_runs_the_other(
    project: Project, lint: int, test: int, named: str
) -> None:
    status, output, calls = ci(project, installed=len(PACKAGES), lint=lint, test=test)

    assert (status, calls) == (1, ["lint ", TESTED])
    assert f"FAILED: {named}" in output
