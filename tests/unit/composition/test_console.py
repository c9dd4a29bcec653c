from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit import console


@dataclass(frozen=True)
class Result:
    name: str
    counts: tuple[int, ...]


def test_json_keeps_the_order_of_the_fields_and_numbers_on_one_line(capsys):
    console.show_json({"z": Result("röd [1]", (256, 64)), "a": [], "path": Path("a/b")})
    assert capsys.readouterr().out == (
        '{\n  "z": {\n    "name": "röd [1]",\n    "counts": [256, 64]\n  },\n  "a": [],\n  "path": "a/b"\n}\n'
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0.5, -1e-9, 1e300]) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_json_that_is_laid_out_is_still_the_same_json(value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    assert json.loads(console._FLAT_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text)) == value


def test_json_refuses_what_json_has_not(capsys):
    with pytest.raises(ValueError, match="JSON"):
        console.show_json({"ratio": float("nan")})
    assert capsys.readouterr().out == ""


def test_a_table_takes_cells_as_they_stand(capsys):
    console.show_table(("file", ">ms"), [("[red]a.png", "1.5"), ("b", console.good("10.25"))], title="what [is]")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "what [is]",
        "file           ms",
        "[red]a.png    1.5",
        "b           10.25",
    ]


def test_a_table_in_a_pipe_is_not_cut(capsys):
    console.show_table(("text",), [("x" * 300,)])
    assert "x" * 300 in capsys.readouterr().out


def test_facts_are_one_a_line(capsys):
    console.show_facts({"model": "steel", "digest": console.faint("0" * 64)}, "a bundle")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a bundle", "model   steel", f"digest  {'0' * 64}"]


def test_a_note_is_on_standard_error(capsys):
    console.note("overlays in [seen]")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "overlays in [seen]\n")


@pytest.mark.parametrize("live", [True, False])
def test_progress_is_silent_without_a_terminal(capsys, live):
    with console.progress(live=live) as tell:
        tell(0.5, "half")
        tell(1.0, "done", 0.0)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_in_a_terminal_says_what_how_much_and_how_long(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with console.progress(live=False) as tell:
        tell(0.25, "epoch 3 [x]", 75.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ("epoch 3 [x]", "25 %", "1:15 left"):
        assert part in captured.err


def test_live_rows_are_silent_without_a_terminal(capsys):
    with console.live_rows() as draw:
        draw([("measuring", "50 %")])
    assert capsys.readouterr() == ("", "")


def test_live_rows_in_a_terminal_are_drawn_anew_and_gone_at_the_end(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with console.live_rows() as draw:
        draw([("[topk]", "4.1 ms")])
        draw([("[topk]", "4.2 ms"), ("dense", console.faint("-"))])
        shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.index("4.1 ms") < shown.err.index("4.2 ms")
    assert "[topk]" in shown.err
    assert capsys.readouterr().err.endswith("\x1b[2K")  # the last line, erased


def test_the_estimate_goes_by_the_pace_since_the_first_call():
    times = iter([100.0, 110.0, 120.0])
    estimate = console._Estimate(lambda: next(times))
    assert estimate(0.5) is None
    assert estimate(0.5) is None
    assert estimate(0.75) == pytest.approx(20.0)


@pytest.mark.parametrize(
    "seconds, text", [(None, ""), (0.4, "0:00 left"), (75, "1:15 left"), (3600, "1:00:00 left"), (7325, "2:02:05 left")]
)
def test_a_duration_is_in_minutes_and_hours(seconds, text):
    assert console.time_left(seconds) == text


def test_numbers_are_written_for_people():
    assert console.percent(0.95671) == "95.7 %"
    assert console.millions(744_874) == "0.74 M"
    assert (console.size(3_427_776), console.size(518)) == ("3.43 MB", "0.52 kB")
    assert [console.milliseconds(ns) for ns in (65_432, 1_234_567, 98_765_432, 123_456_789)] == [
        "0.0654",
        "1.23",
        "98.8",
        "123",
    ]
