"""The example that embeds the runtime: `examples/inspection_app.py`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from edgevit.preprocess import Preprocess

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


def test_a_watched_folder_gives_what_arrives_once_it_is_whole_and_what_has_changed(app, monkeypatch, tmp_path):
    folder, picture = tmp_path / "incoming", tmp_path / "incoming" / "part.png"
    folder.mkdir()
    # What each poll finds: a file that grows and stays, then another of its size and a later time.
    contents = [b"", b"half", b"whole", b"whole", b"whole", b"other", b"other"]
    polls = []

    def while_waiting(_):
        content = contents[len(polls)]
        polls.append(content)
        picture.write_bytes(content)
        os.utime(picture, ns=(0, 1 if content == b"other" else 0))

    monkeypatch.setattr(app.time, "sleep", while_waiting)
    found = app.pictures(folder, watch=True)
    assert next(found) == picture
    assert polls == [b"", b"half", b"whole", b"whole"], "not while its size changes"
    assert next(found) == picture
    assert polls == contents, "again when it has changed, and not without"


def test_a_picture_that_is_taken_away_while_watching_is_no_matter(app, monkeypatch, pictures, tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    (folder / "gone.png").symlink_to(tmp_path / "gone")  # in the list, and not there to be looked at
    shutil.copy(pictures / "red" / "1.png", folder / "part.png")
    monkeypatch.setattr(app.time, "sleep", lambda _: None)
    assert next(app.pictures(folder, watch=True)) == folder / "part.png"


def test_an_overlay_lies_on_what_the_model_saw(app, monkeypatch, make_bundle, pictures, tmp_path):
    sizes = []

    def draw_depth(picture, _):
        sizes.append(picture.size)
        return picture

    monkeypatch.setattr(app, "draw_depth", draw_depth)
    for resize in ("stretch", "crop"):
        preprocess = Preprocess(height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize=resize)
        bundle = make_bundle(resize, preprocess=preprocess)
        app.inspect(bundle, pictures / "blue", watch=False, overlays=tmp_path / "seen", threads=None)
    assert sizes == [(20, 10)] * 2 + [(8, 8)] * 2


@pytest.mark.parametrize(
    "bundle_name, folder, more, problem",
    [
        ("none", ".", [], "none: no such folder; "),
        ("topk", "none", [], "none: no such folder; "),
        ("topk", ".", ["--overlays", "below/.."], "they would be judged as pictures; give another folder"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(
    app, monkeypatch, capsys, bundle, tmp_path, bundle_name, folder, more, problem
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    monkeypatch.setattr(sys, "argv", ["inspection_app.py", bundle_name, folder, *more])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    line, *others = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and problem in line
    assert not others
