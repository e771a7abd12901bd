"""The charts of a page: any numbers can be drawn, and nothing of them is foreign to the page."""

import pytest

from tightrope_cli.pages.figures import COLOURS, Curve, draw_curve, draw_tradeoff, moving_average

POLICY = {
    "name": "sft",
    "pass_rate": 0.5,
    "pass_rate_ci95": [0.4, 0.6],
    "tokens_per_solved": 3000.0,
    "tokens_per_solved_ci95": [2000.0, None],
}


@pytest.mark.parametrize(
    "points",
    [[(1, 0.0)], [(1, 0.0), (2, 0.0)], [(5, 3.7)], [(i, 1000.0 / i) for i in range(1, 300)]],
    ids=["one-zero", "zeros", "one-step", "many-steps"],
)
def test_any_curve_can_be_drawn(points):
    svg = draw_curve(Curve("loss", "loss", ""), points).inline()
    assert "nan" not in svg
    assert svg.count("<use") == len(points) + 1


def test_moving_average_by_hand():
    assert moving_average([1, 2, 3, 4, 5, 6]) == [2, 2.5, 3, 4, 4.5, 5]


def test_a_policy_that_solved_nothing_has_its_own_lane():
    none = POLICY | {"tokens_per_solved": None, "tokens_per_solved_ci95": None}
    svg = draw_tradeoff([none]).inline()
    assert "none solved" in svg
    assert "nan" not in svg
    assert "inf" not in svg


def test_in_the_page_colours_and_type_are_those_of_the_style_sheet():
    rows = [POLICY, POLICY | {"name": "grpo", "tokens_per_solved": 900.0}]
    svg = draw_tradeoff([*rows, POLICY | {"sampling": "greedy"}]).inline()
    assert not any(colour in svg for colour in COLOURS.values())
    assert "font" not in svg
    assert "id=" not in svg.replace('<path id="m', "")
    assert 'aria-label="sft: 50 % solved, 3,000 tokens per solved; grpo: ' in svg
    assert svg.count('<g class="name">') == 3
    assert "Pass rate against tokens" not in svg, "a heading of the page says it"


def test_a_file_has_a_title(tmp_path):
    png, svg = draw_tradeoff([POLICY]).write(tmp_path)
    assert (png.name, svg.name) == ("tradeoff.png", "tradeoff.svg")
    assert "Pass rate against tokens" in svg.read_text("utf-8")
