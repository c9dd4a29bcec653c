"""The program: exit statuses, one line an error, results alone on standard output."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import typer
from typer.main import get_command

from edgevit import __version__
from edgevit.cli import app
from edgevit.errors import CheckFailed, InputError

COMMANDS = get_command(app).commands


def test_the_program_alone_prints_its_help(edgevit):
    outcome = edgevit()
    assert outcome.status == 0
    assert outcome.out.startswith("Usage: edgevit")
    assert outcome.err == ""


def test_the_version_is_the_packages(edgevit):
    assert edgevit("--version").out == f"edgevit {__version__}\n"


def test_the_commands_are_those_of_the_design():
    wanted = "list doctor info export calibrate build verify predict bench train eval"
    assert list(COMMANDS) == wanted.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_takes_json(edgevit, name):
    outcome = edgevit(name, "--help")
    assert outcome.status == 0
    assert f"Usage: edgevit {name} [OPTIONS]" in outcome.out
    assert "--json" in outcome.out
    assert "Examples:" in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name):
    unexplained = [
        parameter.name for parameter in COMMANDS[name].params if not (parameter.help or "").endswith((".", "]"))
    ]
    assert unexplained == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_can_be_parsed(name):
    lines = [line.strip() for line in COMMANDS[name].epilog.splitlines() if line.startswith("  edgevit ")]
    assert lines
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("edgevit", name)
        COMMANDS[name].make_context(name, arguments)


def test_the_first_line_of_a_command_fits_the_list_of_commands(edgevit):
    assert "..." not in edgevit("--help").out.partition("Commands:")[2]


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["exprt"], "no such command 'exprt'; did you mean 'export'?"),
        (["verify"], "missing argument 'BUNDLE'; see edgevit verify --help"),
        (["verify", "a", "b"], "got unexpected extra argument(s) (b); see edgevit verify --help"),
        (["predict", "d", "p", "--overlays", "x"], "no such option: --overlays; did you mean --overlay?"),
        (["export", "steel-dense", "--quantum", "yes"], "no such option: --quantum; see edgevit export --help"),
        (["bench", "d", "--duration", "long"], "invalid value for '--duration'"),
        (["list", "model"], "invalid value for 'WHAT'"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(edgevit, arguments, problem):
    outcome = edgevit(*arguments)
    assert outcome.status == 2
    assert outcome.error.startswith(problem)
    assert outcome.out == ""


@pytest.mark.parametrize("error, status", [(InputError("no\nsuch thing"), 2), (CheckFailed("no\nsuch thing"), 1)])
def test_an_error_of_ours_is_one_line_and_its_own_status(edgevit, monkeypatch, error, status):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("edgevit.api.verify_bundle", fail)
    outcome = edgevit("verify", "bundle")
    assert outcome.status == status
    assert outcome.error == "no such thing"


def test_a_bug_keeps_its_traceback(edgevit, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("edgevit.api.verify_bundle", fail)
    with pytest.raises(ZeroDivisionError):
        edgevit("verify", "bundle")


def test_an_interrupt_ends_with_the_shells_status(edgevit, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgevit.api.verify_bundle", fail)
    assert edgevit("verify", "bundle").status == 130


def test_completion_knows_commands_and_values(monkeypatch):
    environment = {"_EDGEVIT_COMPLETE": "complete_bash", "COMP_CWORD": "2", "COMP_WORDS": "edgevit list ru"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from edgevit.cli import main; sys.exit(main())"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["runtimes"], done.stderr


def test_help_loads_no_heavy_library():
    heavy = ["torch", "onnx", "onnxruntime", "numpy", "PIL", "rich"]
    code = (
        "import json, sys; from edgevit.cli import main\n"
        f"for name in {['', *COMMANDS]!r}: assert main([*name.split(), '--help']) == 0\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert json.loads(done.stderr) == []


def test_typers_own_boxes_and_tracebacks_are_off():
    assert app.rich_markup_mode is None
    assert app.pretty_exceptions_enable is False
    assert isinstance(app, typer.Typer)
