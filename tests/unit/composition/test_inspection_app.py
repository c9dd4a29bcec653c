"""The example that embeds the runtime: `examples/inspection_app.py`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "inspection_app.py"


@pytest.fixture
def app():
    spec = importlib.util.spec_from_file_location("inspection_app", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_gets_a_verdict_and_a_bad_one_stops_nothing(app, monkeypatch, capsys, bundle, pictures, tmp_path):
    folder = pictures / "red"
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    arguments = [str(bundle), str(folder), "--overlays", str(tmp_path / "seen")]
    monkeypatch.setattr(sys, "argv", ["inspection_app.py", *arguments])
    app.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0.png: no verdict: ")
    assert "red" in lines[1] and "depth  62 %" in lines[1]  # 4 and 1 of 4 patches in 2 steps
    assert "blue" in lines[2]
    assert lines[3] == "red 1, blue 1"
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["1.depth.png", "2.depth.png"]


def test_a_watched_folder_gives_what_arrives_and_what_has_changed(app, monkeypatch, pictures, tmp_path):
    arriving = [pictures / "red" / "1.png", pictures / "red" / "2.png"]
    folder = tmp_path / "incoming"
    folder.mkdir()

    def while_waiting(_):
        shutil.copy(arriving.pop(0), folder / "part.png")
        os.utime(folder / "part.png", ns=(0, len(arriving)))

    monkeypatch.setattr(app.time, "sleep", while_waiting)
    found = app.pictures(folder, watch=True)
    assert next(found) == folder / "part.png"
    assert next(found) == folder / "part.png"


def test_what_the_user_can_mend_is_one_line(app, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["inspection_app.py", str(tmp_path / "none"), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: .*no such folder.*$"):
        app.main()
