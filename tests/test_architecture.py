"""The rules of the house, read from the source: who may import whom, what may stand where.

Every rule is a function from a module to complaints, so that it can be shown a violation too (the last tests). A new
module fails until it has a row in LAYERS: deciding where it belongs is part of writing it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "threatlens"

#: Who may know whom: a module imports from its own layer and those below. A word is a module or a family (folder);
#: config_file.py is a part of config and so on, unless it has a word of its own.
LAYERS = {
    0: "clock courtesy durable errors event handing_over receiving redaction sealed spare_memory visible",
    1: "analyzers attack broadcaster channels decoders demo detectors discovery ingestion_queue logs outbound "
    "passwords query rulebook settings sources vault",
    2: "config migrations models own_decoders store",
    3: "analysis answers backup coverage detection doctor exports fanout habits health incidents ingestions "
    "language_model metrics mutes notices notifications own_alerts processor raising redteam reports retention "
    "rule_library threat_lists volumes",
    4: "background web",
    5: "__init__",  # create_app()
    6: "__main__ cli",  # like wsgi.py, they start what create_app() has built
}
SIBLINGS_APART = {1, 4}  # layers whose members do not know each other
FLASK_FROM = 2  # the lowest layer that may know Flask

FAMILIES = ("analyzers", "channels", "decoders", "detectors", "sources", "web")
#: Where the members are alike, the __init__ lists them.
MEMBER_LISTS = {"channels": "CHANNELS", "decoders": "DECODERS", "detectors": "DETECTORS", "web": "PAGES"}

#: The places that may catch everything (rule 4): module and function, and what each is for.
CATCH_ALL = {
    "background._guarded.run": "the wrapper of a job or thread",
    "processor.QueueProcessor._read_lines": "the handling of one bad record",
    "processor_open.OpenEvents._decode": "the handling of one bad record",
    "detection.Detector._ask": "the handling of one batch that the rules fail on",
    "sources.file.LogFileMonitor._supervised": "the supervisor of a source",
}

#: Called at module level they make values or Flask extensions, not instances with a life of their own.
EXTENSIONS = {"Blueprint", "CSRFProtect", "SQLAlchemy", "Sock"}
VALUES = {
    "Decimal",
    "Fraction",
    "MappingProxyType",
    "NewType",
    "Path",
    "ParamSpec",
    "Struct",
    "TypeVar",
    "TypeVarTuple",
    "ZoneInfo",
}
VALUES |= {"AfterValidator", "BeforeValidator", "Field", "StringConstraints", "TypeAdapter"}  # pydantic's annotations
VALUES |= {"Application", "Registry", "Table"}  # decoders: members and rows of patterns, complete when made
FILLED_ON_IMPORT = {"decoders.base.PATTERNS"}  # every pattern over untrusted text, for the test that tries them all
CONTAINERS = {"Counter", "OrderedDict", "defaultdict", "deque", "dict", "list", "set"}

STARTS_WORK = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "start_new_thread"}
WORK_MODULES = {"_thread", "apscheduler", "concurrent", "multiprocessing"}

BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|common)(_|$)|^(optimi[sz]ed|enhanced|improved|new|old)_|_v\d+$")
SQL = re.compile(
    r"\s*(select\s.+?\sfrom\s|insert\s+(or\s+\w+\s+)?into\s|update\s+\w+\s+set\s|delete\s+from\s|pragma\s+\w"
    r"|(create|drop|alter)\s+(unique\s+|virtual\s+|temp\s+)?(table|index|trigger|view)\s|begin\s+(immediate|exclusive))",
    re.IGNORECASE | re.DOTALL,
)
DIALECTS = {"sqlite3", "psycopg", "psycopg2", "sqlalchemy.dialects"}
UNSAFE_CALLS = {
    "eval": "it runs text as code",
    "exec": "it runs text as code",
    "os.popen": "it runs a shell",
    "os.system": "it runs a shell",
    "yaml.full_load": "use yaml.safe_load",
    "yaml.load": "use yaml.safe_load, or compose with a SafeLoader",
    "yaml.unsafe_load": "use yaml.safe_load",
    "Markup": "let the template escape",
    "markupsafe.Markup": "let the template escape",
}
#: Module and call that may stand all the same, and why.
GENERATORS = {
    (
        "decoders.json_straight",
        "exec",
    ): "functions written from places in a list; what a log names is an argument",
    ("decoders.tables", "exec"): "functions written from our own tables of patterns; no line of a log gets there",
    ("detectors.predicates", "exec"): "functions written from compiled rules; their texts enter by repr() only",
}
UNSAFE_MODULES = {"dill", "marshal", "pickle", "shelve"}
MAX_LINES = 500


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    name: str  # dotted, without "threatlens."; "__init__" is the package itself
    source: str
    path: str = "threatlens/example.py"

    @property
    def unit(self) -> str:
        """The module of the trunk or the family that it belongs to."""
        first = self.name.split(".")[0]
        stem = first.split("_")[0]
        return stem if layer_of(first) is None and layer_of(stem) is not None else first

    @property
    def tree(self) -> ast.Module:
        return parse(self.source)

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Everything in it, as ast.walk() finds it."""
        return walked(self.source)

    def at(self, node: ast.AST | int, complaint: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {complaint}"


@cache
def parse(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def walked(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parse(source)))


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found.append(Module(".".join(parts), path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))))
    return tuple(found)


@cache
def layer_of(unit: str) -> int | None:
    return next((layer for layer, units in LAYERS.items() if unit in units.split()), None)


def imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported name, dotted in full, wherever in the file the import stands."""
    package = ["threatlens", *module.name.split(".")]
    is_package = module.path.endswith("__init__.py")
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package[: len(package) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)


def own_imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """What of threatlens is imported, as units."""
    for node, name in imports(module):
        parts = name.split(".")
        if parts[0] == "threatlens":
            known = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
            yield node, Module(parts[1] if known or len(parts) > 2 else "__init__", "").unit


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else node.attr
    return ""


# The rules. Each yields complaints that say what to do.


def is_listed(module: Module) -> Iterator[str]:
    if layer_of(module.unit) is None:
        yield module.at(1, f"is in no layer: give {module.unit!r} a row in LAYERS of tests/test_architecture.py")


def imports_downwards(module: Module) -> Iterator[str]:
    own = layer_of(module.unit)
    if own is None:
        return
    for node, unit in own_imports(module):
        other = layer_of(unit)
        if other is None or unit == module.unit:
            continue
        if other > own:
            yield module.at(node, f"layer {own} imports {unit} of layer {other}: hand it in as an argument instead")
        elif other == own and own in SIBLINGS_APART:
            yield module.at(node, f"{module.unit} and {unit} are siblings: let a module above connect them")


def is_standard_library_only(module: Module) -> Iterator[str]:
    if layer_of(module.unit) != 0:
        return
    for node, name in imports(module):
        first = name.split(".")[0]
        if first not in sys.stdlib_module_names and first != "threatlens":
            yield module.at(node, f"imports {first}: layer 0 needs the standard library only")


def knows_flask_only_above(module: Module) -> Iterator[str]:
    own = layer_of(module.unit)
    if own is None or own >= FLASK_FROM:
        return
    for node, name in imports(module):
        first = name.split(".")[0]
        if first.startswith("flask") or first in {"werkzeug", "wtforms", "jinja2"}:
            yield module.at(node, f"imports {first}: below layer {FLASK_FROM} nothing knows Flask")


def starts_no_work(module: Module) -> Iterator[str]:
    if module.unit == "background":
        return
    for node, name in imports(module):
        if name.split(".")[0] in WORK_MODULES or name.split(".")[-1] in STARTS_WORK:
            yield module.at(node, f"imports {name}: threads and scheduled jobs start in background.py only")
    for node in module.nodes:
        made = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for name in map(dotted, made):
            if name.startswith("threading.") and name.split(".")[-1] in STARTS_WORK:
                yield module.at(node, f"makes a {name}: offer a blocking run() and let background.py run it")


def catches_what_it_knows(module: Module) -> Iterator[str]:
    """A handler that ends by raising again catches nothing and may be broad."""
    for function, node in broad_catches(module.tree, module.name):
        if function not in CATCH_ALL:
            places = ", ".join(sorted(set(CATCH_ALL.values())))
            yield module.at(node, f"{function} catches everything: name what can go wrong; only {places} may")


def broad_catches(parent: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    """Every handler of everything, with the function or class around it, dotted."""
    for node in ast.iter_child_nodes(parent):
        inside = f"{where}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else where
        if is_broad(node):
            yield inside, node
        yield from broad_catches(node, inside)


def is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return any(map(is_everything, types)) and not (isinstance(last, ast.Raise) and last.exc is None)
    if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "suppress":
        return any(map(is_everything, node.args))
    return False


def is_everything(caught: ast.expr | None) -> bool:
    return caught is None or dotted(caught).split(".")[-1] in {"Exception", "BaseException"}


def lists_its_members(module: Module) -> Iterator[str]:
    """A family of alike members lists them in its __init__, and no file of a family is forgotten by everybody."""
    if module.name not in FAMILIES:
        return
    wanted = MEMBER_LISTS.get(module.name)
    if wanted and f"{module.name}.{wanted}" not in set().union(*(assigned(module, node) for node in module.tree.body)):
        yield module.at(1, f"has no {wanted}: the members of a family are listed by hand, in one place")
    imported = {name for other in (module, *modules()) for _, name in imports(other)}
    for member in modules():
        full = f"threatlens.{member.name}"
        known = any(name == full or name.startswith(full + ".") for name in imported)
        is_program = '__name__ == "__main__"' in member.source
        if member.unit == module.name != member.name and not known and not is_program:
            yield module.at(1, f"{full} is imported by nobody: list it among the members")


def is_named_for_what_it_is(module: Module) -> Iterator[str]:
    for part in module.name.split("."):
        if BANNED_NAMES.search(part):
            yield module.at(1, f"is named {part!r}: improve the first version in place, name a module for its subject")


def holds_sql_only_in_the_store(module: Module) -> Iterator[str]:
    if module.unit in {"store", "migrations"}:
        return
    for node, name in imports(module):
        if any(name == dialect or name.startswith(dialect + ".") for dialect in DIALECTS):
            yield module.at(node, f"imports {name}: only store and migrations know a dialect of SQL")
    docstrings = {
        id(node.body[0].value)
        for node in module.nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    for node in module.nodes:
        text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else None
        if isinstance(text, str) and SQL.match(text):
            yield module.at(node, "holds SQL: it belongs into store*.py or a migration")


def needs_no_mapper(module: Module) -> Iterator[str]:
    """The models say what the schema is, to tests and to Flask's shell; what runs asks the store."""
    if module.unit in {"models", "migrations", "__init__"}:
        return
    for node, name in imports(module):
        if name.startswith(("threatlens.models", "sqlalchemy.orm")):
            yield module.at(node, f"imports {name}: ask the store; now_us is in clock.py")


@cache
def frozen_classes() -> frozenset[str]:
    """The names of our classes whose instances are values: frozen dataclasses, named tuples, enumerations."""
    names = set()
    for module in modules():
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and is_frozen(node):
                names.add(node.name)
    return frozenset(names)


def is_frozen(node: ast.ClassDef) -> bool:
    if any(dotted(base).split(".")[-1] in {"NamedTuple", "Enum", "IntEnum", "StrEnum", "Flag"} for base in node.bases):
        return True
    return any(
        keyword.arg == "frozen" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
    )


def holds_values_only(module: Module) -> Iterator[str]:
    """At module level stand constants, functions and classes: nothing that changes while the program runs."""
    allowed = EXTENSIONS | VALUES | frozen_classes()
    for node in module.nodes:
        if isinstance(node, ast.Global):
            yield module.at(node, f"global {', '.join(node.names)}: state belongs to an object that create_app() makes")
    for statement in module.tree.body:
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if value is None or assigned(module, statement) & FILLED_ON_IMPORT:
            continue
        if (isinstance(value, ast.Dict) and not value.keys) or (
            isinstance(value, ast.List | ast.Set) and not value.elts
        ):
            yield module.at(statement, "an empty container at module level is state: give it to an object")
        for call in ast.walk(value):
            name = dotted(call.func).split(".")[-1] if isinstance(call, ast.Call) else ""
            if name in CONTAINERS and not call.args and not call.keywords:
                yield module.at(call, "an empty container at module level is state: give it to an object")
            elif name[:1].isupper() and not name.isupper() and name not in allowed and name not in CONTAINERS:
                yield module.at(call, f"an instance of {name} at module level: make it in create_app() and hand it in")


def assigned(module: Module, statement: ast.stmt) -> set[str]:
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return {f"{module.name}.{target.id}" for target in targets if isinstance(target, ast.Name)}


def calls_nothing_unsafe(module: Module) -> Iterator[str]:
    for node, name in imports(module):
        if name.split(".")[0] in UNSAFE_MODULES:
            yield module.at(node, f"imports {name}: what it reads can run code; use JSON")
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in UNSAFE_CALLS and (module.name, name) not in GENERATORS:
                yield module.at(node, f"calls {name}: {UNSAFE_CALLS[name]}")
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value):
                    yield module.at(node, "runs a shell: pass a list of arguments")


def is_short_enough(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    if lines > MAX_LINES:
        yield module.at(lines, f"has {lines} lines, {MAX_LINES} are allowed: it does two things, find the second")


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    is_listed,
    imports_downwards,
    is_standard_library_only,
    knows_flask_only_above,
    starts_no_work,
    catches_what_it_knows,
    lists_its_members,
    is_named_for_what_it_is,
    holds_sql_only_in_the_store,
    needs_no_mapper,
    holds_values_only,
    calls_nothing_unsafe,
    is_short_enough,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module(rule: Callable[[Module], Iterator[str]]) -> None:
    complaints = [complaint for module in modules() for complaint in rule(module)]

    assert not complaints, "\n" + "\n".join(complaints)


def test_create_app_starts_nothing() -> None:
    package = next(module for module in modules() if module.name == "__init__")
    calls = [node for node in package.nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    started = [package.at(node, f"{dotted(node.func)}()") for node in calls if node.func.attr in {"start", "run"}]

    assert not started, "create_app() builds and starts nothing; wsgi.py and `serve` start:\n" + "\n".join(started)


# Every rule sees what it is for.

LONG = "x = 1\n" * (MAX_LINES + 1)
VIOLATIONS = [
    (is_listed, "brand_new", ""),
    (imports_downwards, "event", "import threatlens.store"),
    (imports_downwards, "decoders.sshd", "def f():\n    from threatlens.store import EventStore"),
    (imports_downwards, "decoders.sshd", "from threatlens import sources"),
    (imports_downwards, "decoders.sshd", "from ..sources import file"),
    (imports_downwards, "web.pages", "from threatlens.background import BackgroundProcessor"),
    (imports_downwards, "store_rows", "from threatlens.processor import QueueProcessor"),
    (imports_downwards, "web.pages", "from threatlens import create_app"),
    (is_standard_library_only, "event", "import orjson"),
    (knows_flask_only_above, "decoders.sshd", "from flask import g"),
    (knows_flask_only_above, "broadcaster", "import flask_sock"),
    (starts_no_work, "processor", "import threading\nt = threading.Thread()"),
    (starts_no_work, "processor", "from threading import Timer"),
    (starts_no_work, "processor", "import threading\nclass Worker(threading.Thread): pass"),
    (starts_no_work, "web.pages", "from apscheduler.schedulers.background import BackgroundScheduler"),
    (starts_no_work, "store", "import concurrent.futures"),
    (catches_what_it_knows, "store", "try:\n    f()\nexcept Exception:\n    pass"),
    (catches_what_it_knows, "store", "try:\n    f()\nexcept:\n    pass"),
    (catches_what_it_knows, "store", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    raise X from e"),
    (catches_what_it_knows, "store", "with contextlib.suppress(Exception):\n    f()"),
    (
        catches_what_it_knows,
        "background",
        "class B:\n    def f(self):\n        try: g()\n        except Exception: pass",
    ),
    (is_named_for_what_it_is, "web.utils", ""),
    (is_named_for_what_it_is, "enhanced_processor", ""),
    (is_named_for_what_it_is, "store_v2", ""),
    (holds_sql_only_in_the_store, "web.pages", "q = 'SELECT id FROM events'"),
    (holds_sql_only_in_the_store, "config", "q = f'update {t} set x = 1'".replace("{t}", "t")),
    (holds_sql_only_in_the_store, "health", "import sqlite3"),
    (holds_sql_only_in_the_store, "models", "from sqlalchemy.dialects import postgresql"),
    (needs_no_mapper, "store", "from threatlens.models import EventRecord"),
    (needs_no_mapper, "web.pages", "from sqlalchemy.orm import Session"),
    (holds_values_only, "processor", "queue = RealtimeIngestionQueue(5)"),
    (holds_values_only, "processor", "CACHE = {}"),
    (holds_values_only, "processor", "CACHE: dict[str, int] = dict()"),
    (holds_values_only, "processor", "ALL = (Engine(), 3)"),
    (holds_values_only, "processor", "lock = threading.Lock()"),
    (holds_values_only, "processor", "def f():\n    global x\n    x = 1"),
    (calls_nothing_unsafe, "config", "yaml.load(text)"),
    (calls_nothing_unsafe, "config", "import pickle"),
    (calls_nothing_unsafe, "cli", "subprocess.run('ls', shell=True)"),
    (calls_nothing_unsafe, "cli", "eval(text)"),
    (calls_nothing_unsafe, "web.pages", "Markup(text)"),
    (is_short_enough, "store", LONG),
]


@pytest.mark.parametrize(("rule", "name", "source"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", None))
def test_the_rule_sees_a_violation(rule: Callable[[Module], Iterator[str]], name: str, source: str) -> None:
    assert list(rule(Module(name, source)))


def test_a_family_that_forgets_a_member_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Module("decoders.sshd", "from threatlens.decoders import times", "threatlens/decoders/sshd.py")
    part = Module("decoders.times", "", "threatlens/decoders/times.py")
    monkeypatch.setattr(sys.modules[__name__], "modules", lambda: (member, part))

    assert len(list(lists_its_members(Module("decoders", "")))) == 2, "no list, and sshd is not in it"
    listed = "from threatlens.decoders.sshd import Sshd\nDECODERS = (Sshd,)"
    assert not list(lists_its_members(Module("decoders", listed)))


ALLOWED = [
    (
        "decoders.sshd",
        "from threatlens.decoders.syslog import Envelope\nfrom threatlens.event import Decoded\nimport re",
    ),
    ("store_rows", "from threatlens.store import EventStore\nQ = 'SELECT id FROM events'\nimport sqlite3"),
    ("processor", "import threading\ndef f(reader: threading.Thread):\n    return threading.Condition()"),
    ("config", "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"),
    ("models", "db = SQLAlchemy(model_class=Base)"),
    ("config", "import re, logging\nLOG = logging.getLogger('x')\nWORD = re.compile('x')\nALL = frozenset({'a'})"),
    ("web.pages", "'''Select what is shown from the store.'''\nMESSAGE = 'Selected sources come from the list.'"),
    ("__main__", "from threatlens.cli import main\nmain()"),
]


@pytest.mark.parametrize(("name", "source"), ALLOWED)
def test_the_rules_allow_what_is_meant(name: str, source: str) -> None:
    assert not [complaint for rule in RULES for complaint in rule(Module(name, source))]
