from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.runtimes.overlay import _HEAT, _colours, _percent, draw_depth
from edgevit.runtimes.prediction import RoutingTrace


def trace_of(depth: np.ndarray, steps: int) -> RoutingTrace:
    return RoutingTrace(depth.astype(np.int32), tuple(int((depth > step).sum()) for step in range(steps)))


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIELAB L* of sRGB colours."""
    linear = np.where(colours <= 10.31, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return 116 * np.cbrt(luminance) - 16


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    grid=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    steps=st.integers(1, 12),
    data=st.data(),
)
def test_any_picture_grid_and_number_of_steps_can_be_drawn(size, grid, steps, data):
    seed = data.draw(st.integers(0, 9))
    depth = np.random.default_rng(seed).integers(1, steps + 1, grid)
    drawn = draw_depth(Image.new("RGB", size, (120, 120, 120)), trace_of(depth, steps))
    assert drawn.mode == "RGB"
    factor = math.ceil(384 / max(size))
    assert drawn.width == max(240, size[0] * factor)
    assert drawn.height > size[1] * factor  # the legend


def test_the_picture_is_not_changed_and_a_large_one_keeps_its_width():
    picture = Image.effect_noise((640, 320), 40).convert("RGB")
    before = picture.tobytes()
    drawn = draw_depth(picture, trace_of(np.ones((2, 2)), 4))
    assert drawn.width == 640
    assert picture.tobytes() == before


def test_deeper_patches_are_lighter_and_lie_where_the_grid_says():
    drawn = np.asarray(draw_depth(Image.new("RGB", (400, 200), (90, 90, 90)), trace_of(np.array([[1, 2], [3, 4]]), 4)))
    corners = np.array([drawn[50, 100], drawn[50, 300], drawn[150, 100], drawn[150, 300]])
    assert (np.diff(lightness(corners)) > 3).all()


def test_a_patch_that_no_step_took_is_left_as_it_is():
    picture = Image.effect_noise((400, 400), 40).convert("RGB")
    drawn = draw_depth(picture, trace_of(np.array([[0, 1], [0, 1]]), 4))
    assert drawn.crop((0, 0, 200, 400)).tobytes() == picture.crop((0, 0, 200, 400)).tobytes()
    assert drawn.crop((200, 0, 400, 400)).tobytes() != picture.crop((200, 0, 400, 400)).tobytes()


def test_the_relief_of_the_picture_shows_through_the_deepest_colour():
    columns = np.tile(np.where(np.arange(400) % 20 < 10, 90, 110).astype(np.uint8), (400, 1))
    drawn = np.asarray(draw_depth(Image.fromarray(columns), trace_of(np.full((4, 4), 4), 4)).convert("L"), np.int32)
    assert abs(drawn[200, 5] - drawn[200, 15]) > 20  # no less than in the picture itself


def test_the_legend_shows_the_colour_of_every_depth_in_order():
    drawn = np.asarray(draw_depth(Image.new("RGB", (400, 400)), trace_of(np.ones((4, 4)), 4)))
    found = [colour for colour in dict.fromkeys(map(tuple, drawn[401].tolist()))]
    assert found[1:] == [tuple(colour) for colour in _colours(4).tolist()]


@pytest.mark.parametrize("steps", [2, 4, 12])
def test_colours_rise_in_lightness_by_even_steps(steps):
    rises = np.diff(lightness(_colours(steps).astype(float)))
    assert (rises > 0).all()
    assert rises.max() < 1.6 * rises.min()


def test_the_palette_has_the_lightness_its_comment_states():
    np.testing.assert_allclose(lightness(_HEAT.astype(float)), [17, 33, 49, 65, 81, 95], atol=1.5)


@pytest.mark.parametrize(
    "share, text", [(0, "0 %"), (0.001, "<1 %"), (0.125, "12 %"), (0.75, "75 %"), (0.999, "100 %"), (1, "100 %")]
)
def test_a_share_is_written_in_whole_percent(share, text):
    assert _percent(share) == text
