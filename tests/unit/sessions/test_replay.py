"""Which part of a client's history is new to a session."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reverie.sessions.replay import fingerprint, input_start, message_fingerprint, unseen
from reverie.types import Message, ToolCall


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def prints(*messages: Message) -> list[bytes]:
    return [message_fingerprint(message) for message in messages]


def test_a_new_session_takes_the_whole_request() -> None:
    """A stateless client's history is all there is."""
    messages = (user("a"), assistant("b"), user("c"))

    assert unseen(messages, []).messages == messages


def test_a_replayed_history_is_not_fed_twice() -> None:
    """A client that resends everything adds only its new message."""
    known = prints(user("a"), assistant("b"))

    assert unseen((user("a"), assistant("b"), user("c")), known).messages == (user("c"),)


def test_a_client_that_keeps_a_window_of_its_history_is_recognised() -> None:
    """The history may begin anywhere in the transcript."""
    known = prints(user("1"), assistant("2"), user("3"), assistant("4"))

    assert unseen((user("3"), assistant("4"), user("5")), known).messages == (user("5"),)


def test_messages_that_another_client_said_in_between_stay_in_place() -> None:
    """History that ends before the transcript's end brings nothing new."""
    known = prints(user("1"), assistant("2"), user("from elsewhere"), assistant("ok"))

    assert unseen((user("1"), assistant("2"), user("3")), known).messages == (user("3"),)


def test_history_said_outside_reverie_is_added() -> None:
    """What the client adds behind the known part is new."""
    known = prints(user("1"), assistant("2"))
    messages = (user("1"), assistant("2"), user("elsewhere"), assistant("there"), user("3"))

    assert unseen(messages, known).messages == messages[2:]


def test_white_space_and_unicode_forms_do_not_hide_a_replay() -> None:
    """Reflowed and decomposed text is the same text."""
    known = prints(user("café  au\nlait"), assistant("oui"))

    assert unseen((user("cafe\u0301 au lait"), assistant(" oui "), user("x")), known).messages == (user("x"),)


def test_saying_the_same_thing_again_is_saying_it_again() -> None:
    """The input itself is never taken for a replay."""
    known = prints(user("yes"), assistant("fine"))

    assert unseen((user("yes"),), known).messages == (user("yes"),)


def test_an_unrelated_history_is_left_out() -> None:
    """A session is not filled with another conversation's history."""
    known = prints(user("a"), assistant("b"))

    assert unseen((user("x"), assistant("y"), user("z")), known).messages == (user("z"),)


def test_tool_results_are_the_input_together() -> None:
    """Parallel calls come back as several messages at once."""
    calls = (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{}"))
    asked = Message("assistant", "", tool_calls=calls)
    results = (Message("tool", "r1", tool_call_id="1"), Message("tool", "r2", tool_call_id="2"))
    messages = (user("go"), asked, *results)

    assert input_start(messages) == 2
    assert unseen(messages, prints(user("go"), asked)).messages == results


def test_a_message_is_known_by_role_and_calls_as_well_as_text() -> None:
    """The same words from another role are another message."""
    assert fingerprint("user", "a") != fingerprint("assistant", "a")
    assert fingerprint("assistant", "", ["1"]) != fingerprint("assistant", "", ["2"])


@given(st.lists(st.text(max_size=8), min_size=1, max_size=12), st.text(max_size=8))
def test_a_full_replay_always_adds_exactly_the_input(history: list[str], new: str) -> None:
    """Whatever the history, resending it whole adds one message."""
    said = [user(text) if n % 2 == 0 else assistant(text) for n, text in enumerate(history)]

    assert unseen((*said, user(new)), prints(*said)).messages == (user(new),)
