"""What is never a memory, and what only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.dreaming.contamination import CHARACTERS_MAX, contaminated, refused_by_openclaw, unfit

STAGED = (
    "Act first. confidence: 0.76 evidence: memory/.dreams/session-corpus/2026-04-08.txt:1-1 recalls: 3 status: staged"
)
CORPUS = "evidence: memory/.dreams/session-corpus/2026-04-12.txt:25-25"
DIARY = "Write a dream diary entry from these memory fragments"
MARKER = "<!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->"


@pytest.mark.parametrize(
    "text",
    [
        f"Candidate: {STAGED}",
        f"- Candidate: {STAGED}",
        f"@@ -1,1 - Candidate: {STAGED}",
        f"([ Candidate: {STAGED}",
        f"Reflections: Theme: assistant. {STAGED}",
        f"- - status: staged - Candidate: User: run it - confidence: 0.00 - {CORPUS} - recalls: 0 - status: staged",
        f"confidence: 0.58 - Candidate: Assistant: It is done. - {CORPUS} - recalls: 0 - status: staged",
        f"[main/dreaming-narrative-light.jsonl#L1] User: {DIARY}:",
        f"The bearing is dry. {MARKER}",
    ],
)
def test_output_of_dreaming_that_came_back(text: str) -> None:
    """Its markers, its staged lines in every dress, and its prompts are refused, as OpenClaw refuses them."""
    assert contaminated(text) is not None
    assert refused_by_openclaw(text) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Reflection: x. confidence: 1.0 evidence: memory/a.md:2-2 note: reflection status: staged",
            "a staged candidate",
        ),
        ("- Candidate: x confidence: 0.6 evidence: sessions/1:2-2 recalls: 1 status: staged", "a staged candidate"),
        (f"- user: [Wed 2026-06-10 03:11 GMT+8] {DIARY}: the sea", "a prompt of the dream diary"),
        (
            "- Due in March [score=0.812 recalls=4 avg=0.870 source=memory/2026-04-01.md:3-3]",
            "an annotation of a promotion",
        ),
        ("Due [score=0.9 signals=5 recalls=4 avg=0.8 source=sessions/1:3-3]", "an annotation of a promotion"),
        ("Theme <!-- openclaw:dreaming:light:start --> and more", "a marker of dreaming"),
        ("__openclaw_memory_core_short_term_promotion_dream__", "the trigger of dreaming"),
        ("Reminder:\n__openclaw_memory_core_light_sleep__", "the trigger of dreaming"),
        ("<recalled_memory>\nQuoted from memory", "a memory that was quoted"),
        ('It said <memory source="memory/a.md#L1" from="owner"> the drum squeaks', "a memory that was quoted"),
        ('Conversation info (untrusted metadata):\n```json\n{"message_id": "1"}\n```', "metadata of a message"),
        ("Sender (untrusted metadata): Anna", "metadata of a message"),
        ("Replied message (untrusted, for context): we meet at nine", "metadata of a message"),
        ("- **Session Key**: agent:main:main\n- **Session ID**: 01a1fca1", "the key and id of a session"),
        ("Pre-compaction memory flush. Store durable memories now.", "a prompt to flush memory"),
        ("Session nearing compaction. Store durable memories now.", "a prompt to flush memory"),
        ("<system-reminder>\nBe brief from now on.\n</system-reminder>", "a system reminder"),
        ("System: [2026-01-12 12:00] The nightly job ended well.", "a system reminder"),
        ("[system message] a model was changed to another", "a system reminder"),
        ("[cron:26fb656d nightly] check the mail and report", "the wrapper of a cron job"),
        ("User: [cron:26fb656d nightly] check the mail", "the wrapper of a cron job"),
        ("Read HEARTBEAT.md if it exists. If nothing needs attention, reply HEARTBEAT_OK.", "the text of a heartbeat"),
        ("[OpenClaw heartbeat poll]", "the text of a heartbeat"),
        ("HEARTBEAT_OK", "the text of a heartbeat"),
        ("**NO_REPLY**", "the text of a heartbeat"),
        ("The oven is clean now.\n\nHEARTBEAT_OK", "the text of a heartbeat"),
        ("[queued] Your message is answered after the one before it.", "word of a queue"),
        ("[Queued messages while agent was busy]\nQueued #1: bread", "word of a queue"),
        ("Conversation Summary: they spoke of ovens for an hour", "a summary of a conversation"),
        ("user: I like strong tea in the morning", "a turn of a transcript"),
        ("- **Assistant:** You like strong tea in the morning", "a turn of a transcript"),
        ("/new", "a command"),
        ("/model gpt-5 for this conversation", "a command"),
        ("$ sudo apt-get install jq", "a command"),
        ('{"tool": "weather", "celsius": 21}', "data of a program"),
    ],
)
def test_prompts_wrappers_and_metadata(text: str, reason: str) -> None:
    """What programs write for models and about messages is refused, and the reason says what it is."""
    assert unfit(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "What is the wifi password?",
        "what's the wifi password",
        "when is the service due",
        "is my passport still valid",
        "Hey! What's the wifi password? Thanks!",
        "Caroline: Wow, that's so nice! What pet do you have?",
        "- Where is the key?\n- Who has it?",
        "# 2026-05-04\n\nWhat is due?",
        "¿Cuándo es el próximo servicio?",
        "Когда следующий сервис?",
        "ما هي كلمة السر؟",
        "路由器的密码是什么？",
        "你知道路由器的密码吗",
        "ルーターのパスワードは何ですか。",
        "라우터 비밀번호가 뭔가요?",
        "Πότε είναι το σέρβις?",
    ],
)
def test_a_question_is_no_memory(text: str) -> None:
    """A text of nothing but questions says nothing, in whatever script, with or without its mark."""
    assert unfit(text) == "nothing but questions"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("---\n***\n- [ ]", "nothing but marks"),
        ("<!-- for whoever edits this -->", "nothing but marks"),
        ("👍👍", "nothing but marks"),
        ("# 2026-05-04\n\n## Notes\n\n-\n- [ ]", "headings without text"),
        ("# 2026-05-04 ## Notes - -", "headings without text"),
        ("# The long heading of a day\n\n## And of its evening", "headings without text"),
        ("# 2026-05-04\n\n/remember the kiln is serviced in May", "a command"),
        ("Thank you so much!", "a courtesy"),
        ("Sounds good, thanks.", "a courtesy"),
        ("Jon: Bye!", "a courtesy"),
        ("好的，谢谢", "a courtesy"),
        ("ありがとうございます。", "a courtesy"),
        ("감사합니다", "a courtesy"),
        ("Спасибо большое!", "a courtesy"),
        ("Kiln", "too few words"),
        ("Buy milk", "too few words"),
        ("牛奶", "too few words"),
    ],
)  # fmt: skip
def test_text_that_says_nothing(text: str, reason: str) -> None:
    """Marks, headings, courtesies and single words are no memories."""
    assert unfit(text) == reason


@pytest.mark.parametrize("text", ["Kiln", "Buy milk", "牛奶"])
def test_a_part_may_be_short(text: str) -> None:
    """Few words are a reason to promote nothing, and none to forget that it was recalled."""
    assert contaminated(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "The Candidate profile for Josh shows that he runs the network team; the stack is Cisco and Meraki.",
        "Candidate: move backups weekly. confidence: 0.76 evidence: memory/2026-04-08.md:1-1",
        f'Debug note: the log held "[main/dreaming-narrative-light.jsonl#L1] User: {DIARY}:" twice.',
        f"The prompt begins with `{DIARY}` in the source.",
        "`HEARTBEAT_OK` is what the agent answers when nothing is due.",
        "The agent looks at HEARTBEAT.md every 30 minutes.",
        "Cron runs the backup at 3:00 each night.",
        'The wrapper looks like "[cron:26fb656d nightly]" in the transcript.',
        "The session key of the kitchen is agent:main:kitchen.",
        "The memory flush in our app happens before compaction.",
        "The system: a boiler from 1987 in the cellar.",
        "A queued job takes about five minutes.",
        "Summary of the talk with the bank: 2.1 % for ten years.",
        "Users: 40 seats, renewal in March.",
        "/etc/nginx holds the settings of the proxy.",
        "/srv holds what the proxy serves.",
        "Is the shop open on Mondays? No, only from Tuesday on.",
        "What matters to Anna is quiet.",
        "See https://example.org/?q=1 for the invoices.",
        "# 2026-10-12 The drum squeaked during the third batch.",
        "# 2026-10-12\n\nThe drum squeaked.",
        "# 2026-10-12 烤箱的温度必须低于六十度才能关机。",
        "- The dentist is on 4 May at 10:30 (Dr. Weber).",
        "Hi! We moved to Lisbon last week.",
        "Thanks to Petra the roaster works again.",
        "No meetings before 10.",
        "Peanut allergy.",
        "Wi-Fi: hunter2-guest",
        "对花生过敏",
        "彼得拉每年三月保养咖啡机",
        "バックアップは毎晩3時に走る",
        "땅콩 알레르기가 있다",
        "Аллергия на арахис.",
        "عندها حساسية من الفول السوداني",
    ],
)
def test_what_may_be_a_memory(text: str) -> None:
    """Facts stay fit in every language, also those that speak of prompts, commands and candidates."""
    assert unfit(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "ｈｅａｒｔｂｅａｔ＿ｏｋ",
        "HEART\u200bBEAT_OK",
        "heartbeat\u0336_ok",
        "<\u2060recalled_memory> the drum squeaks",
        "＜recalled_memory＞ the drum squeaks",
        "</ recalled_memory> the drum squeaks",
        "/\u200bnew",
        "[CRON:1 nightly] check the mail",
        "Conversation Info (Untrusted\u00a0Metadata): x",
        "__OPENCLAW_MEMORY_CORE_short_term_promotion_dream__",
        "OpenClaw-Memory-Promotion:key",
    ],
)
def test_dressing_up_does_not_help(text: str) -> None:
    """Full-width letters, what is not seen, accents, case and spaces hide nothing."""
    assert unfit(text) is not None


def test_openclaw_of_april_refuses_only_its_own_output() -> None:
    """What later versions and Reverie refuse besides counts there."""
    for text in ("When is the service due?", "user: I like tea", "Kiln", "HEARTBEAT_OK", "[cron:1 x] go"):
        assert refused_by_openclaw(text) is None
    assert (
        refused_by_openclaw("Reflection: x. confidence: 1 evidence: memory/a.md:2 note: reflection status: staged")
        is None
    )


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_decided(text: str) -> None:
    """Whatever a text holds there is an answer, and what is refused as a part is refused as a whole."""
    assert contaminated(text) in {None, unfit(text)}


@pytest.mark.parametrize(
    "piece",
    [
        "heartbeat\n",
        "[[ ] ",
        "\n-",
        '"heartbeat ',
        "<!--",
        "session key ",
        "( untrusted",
        "what is ? ",
        "user: ",
        "#" * 7,
    ],
)
def test_hostile_text_costs_no_more(piece: str) -> None:
    """Text made to be slow is decided in a moment, however long it is."""
    text = f"heartbeat system: [queued {piece * 40_000}"
    started = time.perf_counter()
    unfit(text)

    assert len(text) > CHARACTERS_MAX
    assert time.perf_counter() - started < 0.5
