from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.runtimes.merging_overlay import _colours, draw_merging, draw_traces
from edgevit.runtimes.overlay import draw_depth
from edgevit.runtimes.prediction import MergingTrace, RoutingTrace


def trace_of(assignment: list[list[int]] | np.ndarray) -> MergingTrace:
    values = np.array(assignment, np.int32)
    return MergingTrace(values, (values.size, max(int(values.max()) + 1, 1)))


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    grid=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    tokens=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_any_picture_grid_and_assignment_can_be_drawn(size, grid, tokens, seed):
    assignment = np.random.default_rng(seed).integers(-1, tokens, grid)
    drawn = draw_merging(Image.new("RGB", size, (120, 120, 120)), trace_of(assignment))
    factor = math.ceil(384 / max(size))
    assert drawn.mode == "RGB"
    assert drawn.width == max(240, size[0] * factor)
    assert drawn.height > size[1] * factor  # the legend


def test_the_picture_is_not_changed_and_a_large_one_keeps_its_width():
    picture = Image.effect_noise((640, 400), 40).convert("RGB")
    before = picture.tobytes()
    assert draw_merging(picture, trace_of([[0, 0], [1, -1]])).width == 640
    assert picture.tobytes() == before


def test_a_patch_of_its_own_is_left_as_it_is():
    picture = Image.effect_noise((400, 400), 40).convert("RGB")
    drawn = draw_merging(picture, trace_of([[0, 1], [2, 2]]))
    assert drawn.crop((2, 2, 198, 198)).tobytes() == picture.crop((2, 2, 198, 198)).tobytes()
    assert drawn.crop((2, 202, 398, 398)).tobytes() != picture.crop((2, 202, 398, 398)).tobytes()


def test_patches_of_one_token_have_one_colour_wherever_they_lie_and_a_border_around():
    drawn = np.asarray(draw_merging(Image.new("RGB", (400, 400), (90, 90, 90)), trace_of([[0, 1], [1, 0]])))
    here, there, other, across = drawn[100, 100], drawn[300, 300], drawn[100, 300], drawn[300, 100]
    assert (here == there).all() and (other == across).all()
    assert np.abs(here.astype(int) - other).max() > 40
    assert drawn[100, 199].max() < 30, "the line between two tokens"
    assert (np.asarray(draw_merging(Image.new("RGB", (400, 400)), trace_of([[0, 0], [0, 0]])))[:400].min() > 30).any()


def test_dropped_patches_are_darker_than_any_other():
    drawn = np.asarray(
        draw_merging(Image.new("RGB", (400, 400), (160, 160, 160)), trace_of([[-1, 0], [1, 1]])).convert("L"), float
    )
    assert drawn[20:180, 20:180].mean() < 0.6 * min(drawn[20:180, 220:380].mean(), drawn[220:380].mean())
    assert len(np.unique(drawn[20:180, 20:180])) > 1, "hatched"


def test_where_all_is_dropped_there_is_still_a_picture():
    assert draw_merging(Image.new("RGB", (40, 40)), trace_of([[-1]])).width == 400


def test_the_bar_of_the_legend_is_as_long_as_the_share_of_tokens_left():
    drawn = np.asarray(draw_merging(Image.new("RGB", (400, 400)), trace_of([[0, 0], [1, 1]])).convert("L"))
    bar = drawn[402] > 200
    assert bar[:199].all() and not bar[200:].any()


def test_the_colours_of_successive_tokens_are_far_apart():
    colours = _colours(60)
    assert colours.min() >= 0 and colours.max() <= 255
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 40


def test_whichever_trace_there_is_gets_drawn_and_two_side_by_side():
    picture = Image.effect_noise((400, 300), 40).convert("RGB")
    merging = trace_of([[0, 0], [1, 2]])
    routing = RoutingTrace(np.array([[1, 1], [2, 1]], np.int32), (3, 1))
    depth, tokens = draw_depth(picture, routing), draw_merging(picture, merging)
    assert draw_traces(picture, None, None) is None
    assert draw_traces(picture, routing, None).tobytes() == depth.tobytes()
    assert draw_traces(picture, None, merging).tobytes() == tokens.tobytes()
    both = draw_traces(picture, routing, merging)
    assert both.crop((0, 0, *tokens.size)).tobytes() == tokens.tobytes()
    assert both.crop((both.width - 400, 0, both.width, depth.height)).tobytes() == depth.tobytes()
