from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from by_hand import measurement, result, samples, series

from edgevit.benchmarks import Measurement, Settings
from edgevit.benchmarks.child import Failure
from edgevit.benchmarks.layers import Profile, layer_costs
from edgevit.benchmarks.report_html import measurement_to_html
from edgevit.benchmarks.telemetry import Absence, Telemetry
from edgevit.errors import MissingExtra
from edgevit.probes import LayerTime

pytest.importorskip("plotly", reason="plotly is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def everything(queries: int = 400) -> Measurement:
    """A measurement with something for every part of the page."""
    rng = np.random.default_rng(0)
    batches = np.arange(queries) % 20
    counts = np.stack([np.full(20, 64), np.arange(20) * 2, np.arange(20) // 4], axis=1)
    adaptive = (2 + counts.sum(axis=1)[batches] / 50) * rng.lognormal(0, 0.02, queries)
    broken = replace(result(samples([]), name="broken"), failure=Failure("died", "'broken' exited with status 3"))
    whole = measurement(
        result(samples(10 * rng.lognormal(0, 0.05, queries), batches=batches), name="dense", images=20),
        result(samples(adaptive, batches=batches), name="<b>adaptive</b>", images=20, counts=counts.tolist()),
        broken,
        settings=Settings(deadline_ms=9.0),
    )
    layers = layer_costs(
        [LayerTime("blocks.0[1].mlp/MatMul", "MatMul", 0, 5000), LayerTime("stem/Conv", "Conv", 0, 900)]
    )
    read = (
        series("cpu_clock_mean", "MHz", [0, 500, 1000], [2000, 1900, 2000]),
        series("power VDD_IN", "W", [0, 900], [9, 9.5]),
    )
    return replace(
        whole,
        profiles=(Profile("dense", 20, layers, None), Profile("broken", 0, (), "it was not loaded")),
        telemetry=Telemetry(read, (Absence("rapl", "no RAPL counters"),)),
        image_names=tuple(f"image{i}.png" for i in range(20)),
        command_line=("edgevit", "bench", "</script>"),
    )


class Page(HTMLParser):
    """What a browser would fetch, and the text and chart places of the page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.places: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._inside = tag
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]
        if "chart" in (named.get("class") or "").split():
            self.places.append(str(named["id"]))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(measurement_to_html(everything()))


def test_the_page_fetches_nothing(page: Page) -> None:
    assert page.fetched == []
    assert len(page.scripts) == 3


def test_every_chart_has_its_place_and_data(page: Page) -> None:
    charts = json.loads(page.scripts[0])
    assert [chart["id"] for chart in charts] == page.places
    # Ratio, share done, distribution, over time, images of the adaptive one, warm-up, three views of the layers.
    assert len(charts) == 9
    assert all(chart["data"] for chart in charts)


def test_the_page_says_what_a_reader_needs_first(page: Page) -> None:
    text = " ".join(page.text)
    assert re.search(r"<b>adaptive</b> takes 0\.\d+ of the time of dense", text)
    assert "'broken' exited with status 3" in text
    assert "too-few-samples" in text
    assert "no RAPL counters" in text
    assert "</script>" in text  # the command line, as text


def test_the_worst_case_is_a_line_among_the_images_of_what_it_bounds_and_has_no_chart_of_its_own() -> None:
    whole = everything()
    name = whole.results[1].candidate.name
    counts = whole.results[1].counts
    fullest = result(
        samples([7.0] * 400, batches=np.arange(400) % 20), name="fullest", images=20, counts=counts.tolist()
    )
    fullest = replace(fullest, candidate=replace(fullest.candidate, worst_case_of=name))
    page = Page(measurement_to_html(replace(whole, results=(*whole.results, fullest))))
    charts = json.loads(page.scripts[0])
    assert len(charts) == 9, "as without it"
    (line,) = [drawn for chart in charts for drawn in chart["data"] if drawn.get("name") == "worst case"]
    assert line["y"] == [7.0, 7.0]
    assert line["x"] == [counts.sum(axis=1).min(), counts.sum(axis=1).max()]


def test_a_long_run_is_drawn_by_its_slowest_and_an_even_choice_of_the_others() -> None:
    content = measurement_to_html(everything(20_000))
    charts = json.loads(Page(content).scripts[0])
    over_time = next(chart for chart in charts if "over time" in chart["id"] or len(chart["layout"]) > 4)
    assert all(len(trace["x"]) <= 2000 for trace in over_time["data"])
    slowest = everything(20_000).results[0].measured.latency_ns.max() / 1e6
    assert max(over_time["data"][0]["y"]) == pytest.approx(slowest, rel=1e-5)


def test_nothing_measured_is_a_page_without_charts() -> None:
    page = Page(measurement_to_html(measurement(result(samples([])))))
    assert page.places == []


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(MissingExtra, match=r"plotly is not installed.*edgevit\[bench\]"):
        measurement_to_html(everything())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_draws_every_chart_within_the_width_and_without_an_error(tmp_path: Path, width: int) -> None:
    content = measurement_to_html(everything())
    watch = (
        "<script>window.faults=[];addEventListener('error',e=>faults.push(e.message));</script>",
        "<script>addEventListener('load',()=>{const drawn=[...document.querySelectorAll('.chart')]"
        ".filter(c=>c.querySelector('.main-svg')&&c.querySelector('.trace,.point,.scatterlayer')).length;"
        "parent.postMessage(JSON.stringify({drawn,faults,inner:innerWidth,"
        "wide:document.documentElement.scrollWidth>innerWidth}),'*');});</script>",
    )
    path, frame = tmp_path / "r.html", tmp_path / "frame.html"
    path.write_text(content.replace("<head>", f"<head>{watch[0]}").replace("</body>", f"{watch[1]}</body>"))
    # In a frame: a window without a head is never as narrow as a phone.
    frame.write_text(
        "<script>addEventListener('message',e=>{document.title=e.data;});</script>"
        f"<iframe src='r.html' style='border:0;width:{width}px;height:2000px'></iframe>"
    )
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1300,2000", "--virtual-time-budget=20000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None
    assert json.loads(title.group(1)) == {"drawn": 9, "faults": [], "inner": width, "wide": False}
