"""Prompts, strengths and guidance: arithmetic that draws with a generator."""

from collections import Counter

import numpy as np
import pytest

from pipeline.diffusion.prompts import PromptTemplates, check_template, columns_of, missing_prompts, text_sha256
from pipeline.diffusion.strength import draw_guidance, draw_step_count, strengths_for, weighted_choice
from pipeline.errors import InputError
from pipeline.seeding import generators


def drawn(wanted: list[tuple[str, float]], names: list[str], **columns: list[object]) -> list[str | None]:
    return PromptTemplates(wanted).draw(generators(range(len(names))), names, columns)[0]


def test_fields_are_class_names_and_columns() -> None:
    wanted = [("a {label} in {colour}, {column:label}", 1.0)]
    found = drawn(wanted, ["bag", ""], colour=["red", 3], label=["x", "{label}"])
    assert found == ["a bag in red, x", "a in 3, {label}"]  # a value's own braces are text; no name leaves none
    assert columns_of([("{label} {a} {column:b} {a}", 1.0), ("{c}", 1.0)]) == ("a", "b", "c")


def test_null_leaves_no_prompt_and_a_missing_column_is_named() -> None:
    assert drawn([("{colour}", 1.0)], [""] * 4, colour=[None, "red", "", " "]) == [None, "red", None, None]
    assert drawn([("a {colour}", 1.0)], [""], colour=[""]) == ["a"] and drawn([("", 1.0)], [""]) == [""]
    assert PromptTemplates([("a", 1.0)], [("{colour}", 1.0)]).draw(generators([0]), [""], {"colour": [""]})[1] == [""]
    assert list(missing_prompts([None, "a", None])) == [0, 2] and not missing_prompts(["", "a"])
    with pytest.raises(InputError, match=r"no column 'color' to fill {color} with \(columns: colour\)"):
        drawn([("{color}", 1.0)], [""], colour=["red"])
    with pytest.raises(InputError, match="no source rows"):
        drawn([("{color}", 1.0)], [""])


def test_one_template_is_no_draw_and_several_are_drawn_by_weight() -> None:
    (alone,) = generators([5])
    before = alone.bit_generator.state["state"]
    PromptTemplates([("a", 1.0)], [("b", 2.0)]).draw([alone], [""], {})
    assert str(alone.bit_generator.state["state"]) == str(before)
    counts = Counter(drawn([("a", 1), ("b", 0.5), ("c", 2.5)], [""] * 4000))
    for text, share in (("a", 0.25), ("b", 0.125), ("c", 0.625)):
        assert abs(counts[text] / 4000 - share) < 0.04  # five standard deviations


@pytest.mark.parametrize(("template", "message"), [("a {", "stands alone"), ("a {}", "without a name"), ("}", "alone")])
def test_templates_that_cannot_be_read_are_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_template(template)
    check_template("a {label}, {column:my caption}")


def test_texts_are_known_by_their_sha256() -> None:
    assert text_sha256("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert text_sha256(None) is None


def test_each_way_pipelines_count_steps_has_a_share_that_runs_them() -> None:
    """Those of Stable Diffusion floor the steps that are run, those of flow matching the steps that are left out."""
    for steps in (*range(1, 130), 250, 999, 1000):
        for run in range(1, steps + 1):
            shares = strengths_for(steps, run)
            assert all(0 < share <= 1 for share in shares) and (shares == (1.0,)) == (run == steps)
            assert run in [min(int(steps * share), steps) for share in shares]
            assert run in [steps - int(max(steps - min(steps * share, steps), 0)) for share in shares]


def test_runs_are_drawn_from_a_range_or_by_weight() -> None:
    counts = Counter(draw_step_count(each, 10, (0.35, 0.6)) for each in generators(range(2000)))
    assert set(counts) == {3, 4, 5, 6} and all(abs(count - 500) < 100 for count in counts.values())
    counts = Counter(draw_step_count(each, 10, (0, 1), [(0.2, 3), (0.9, 1)]) for each in generators(range(2000)))
    assert set(counts) == {2, 9} and abs(counts[2] - 1500) < 100


def test_guidance_is_drawn_evenly_or_among_the_halves() -> None:
    values = [draw_guidance(each, (1.0, 2.2), stepped=True) for each in generators(range(400))]
    assert set(values) == {1.0, 1.5, 2.0, 2.2}
    assert len({draw_guidance(each, (1.0, 2.2), stepped=False) for each in generators(range(50))}) == 50
    (alone,) = generators([1])
    assert draw_guidance(alone, (7.0, 7.0), stepped=True) == 7.0
    assert alone.random() == np.random.Generator(np.random.Philox(key=1)).random()
    assert weighted_choice(alone, [("only", 1.0)]) == "only"
