"""When a plugin that fails is left alone."""

from __future__ import annotations

from reverie.plugins.pauses import Standing, after_failure, pause_s


def test_the_pause_grows_and_is_bounded() -> None:
    """Nothing after two failures, then ten seconds, doubled up to ten minutes."""
    assert [pause_s(failures) for failures in (1, 2, 3, 4, 5, 9, 50)] == [0, 0, 10, 20, 40, 600, 600]


def test_a_plugin_is_tried_again_after_its_pause() -> None:
    """The first failure afterwards makes the next pause at once, and longer."""
    standing = Standing()
    for _ in range(3):
        standing = after_failure(standing, 100.0)

    assert standing == Standing(3, 110.0)
    assert (standing.paused_s(104.0), standing.paused_s(110.0)) == (6.0, 0.0)
    assert after_failure(standing, 110.0) == Standing(4, 130.0)


def test_a_late_failure_does_not_make_a_pause_longer() -> None:
    """It belongs to a call that began before."""
    standing = Standing(3, 110.0)

    assert after_failure(standing, 109.0) is standing
