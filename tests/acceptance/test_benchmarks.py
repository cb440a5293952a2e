"""The benchmarks run, on a small scale: what they count holds there too; what they measure says nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_busy() -> None:
    """Every mode acknowledges a second message or refuses it, and nothing is lost, doubled or out of order."""
    command = [sys.executable, "-m", "benchmarks.busy", "--scale", "small", "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    figures, groups = report["figures"], report["groups"]

    assert {name: figures[name] for name in ("lost", "duplicated", "reordered", "wrong")} == {
        "lost": 0, "duplicated": 0, "reordered": 0, "wrong": 0,
    }  # fmt: skip
    assert figures["acks"] > 0
    assert {mode for mode, ms in groups["ack_ms"].items() if not ms} == {"wait"}
    assert {mode for mode, s in groups["first_s"].items() if not s} == {"interrupt", "interrupt_stream"}
    assert {mode for mode, s in groups["reply_s"].items() if not s} == {"reject", "reject_stream"}
    assert groups["reply_s"]["steer"] < groups["reply_s"]["followup"]


@pytest.mark.timeout(60)
def test_dreaming() -> None:
    """Every passage is either a candidate or refused."""
    command = [sys.executable, "-m", "benchmarks.dreaming", "--scale", "small", "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])["figures"]

    assert figures["candidates"] + figures["rejected"] == figures["entries"] == 200
    assert figures["candidates"] > 0
    assert figures["rank_10k_ms"] > 0


@pytest.mark.timeout(90)
def test_threads_chat() -> None:
    """Between epochs a prompt begins as the one before it, to the byte; an edited file costs one cold start."""
    command = [sys.executable, "-m", "benchmarks.threads_chat", "--scale", "small", "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=80, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])["figures"]

    assert (figures["cold_starts"], figures["edited_cold_starts"]) == (0, 1)
    assert min(figures["identical_share"], figures["edited_identical_share_between_epochs"]) >= 0.99
    assert figures["others_identical_share"] < 0.5
    assert "MEMORY.md changed" in ran.stderr


@pytest.mark.timeout(120)
@pytest.mark.skipif(find_spec("codex_cli_bin") is None, reason="the extra `codex` is not installed")
def test_threads() -> None:
    """On the real Codex the bootstrap is told once and its prefix stays; the old order tells it with every turn."""
    command = [sys.executable, "-m", "benchmarks.threads", "--half", "codex", "--scale", "small", "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    figures, old = report["figures"], report["peers"]["codex_old_order"]

    assert (figures["cold_starts"], old["cold_starts"]) == (0, 9)
    assert figures["identical_prefix_share"] >= 0.99
    assert figures["replayed_bootstrap_tokens"] <= 10_800
    assert old["replayed_bootstrap_tokens"] >= 90_000


@pytest.mark.timeout(180)
def test_dream_weeks(tmp_path: Path) -> None:
    """What is asked for again and again is promoted within its budget, and then answers what is asked later."""
    said = ("The kiln is serviced in May by Petra.", "Good to know, thank you.", "The spare key hangs behind the oven.")
    turns = [
        {"speaker": speaker, "text": text, "date": "2026-01-05"}
        for speaker, text in zip(("Anna", "Ben", "Anna"), said, strict=True)
    ]
    asked = ("When is the kiln serviced?", "Who services the kiln in May?", "Does Petra service the kiln?")
    questions = [
        {"id": f"q{number}", "text": f"{asked[number % 3]} ({number})", "category": "fact", "gold_turns": [0]}
        for number in range(42)
    ]
    file = tmp_path / "histories.jsonl"
    line = {"name": "tiny", "turns": turns, "questions": [*questions, {"text": "Why?", "gold_turns": list[int]()}]}
    file.write_text(json.dumps(line) + "\n", encoding="utf-8")
    shown = tmp_path / "shown"
    command = [sys.executable, "-m", "benchmarks.dream_weeks", str(file), "--show", str(shown), "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])["figures"]
    memory = (shown / "tiny-MEMORY.md").read_text(encoding="utf-8")
    (explained, *_) = (shown / "tiny-explanations.jsonl").read_text(encoding="utf-8").splitlines()

    assert (figures["questions"], figures["later_questions"], figures["turns"]) == (42, 14, 3)
    assert figures["answered_later"] == figures["touched_later"] == 14
    assert figures["turns_promoted"] >= 1
    assert figures["memory_chars_max"] <= 10_000
    assert said[0] in memory
    assert json.loads(explained)["questions"] >= 2


@pytest.mark.timeout(60)
def test_learned_recall() -> None:
    """Every trace that is asked for is found, by its meaning alone and with words."""
    command = [sys.executable, "-m", "benchmarks.learned_recall", "--sizes", "300", "--queries", "30", "--json"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])["figures"]

    assert (figures["found"], figures["found_with_words"], figures["traces"]) == (30, 30, 300)


@pytest.mark.timeout(120)
def test_storm() -> None:
    """Learning beside a conversation: nothing is paid twice, and no more questions run at once than may."""
    options = ["--turns", "6", "--delay-s", "0.05", "--sessions", "2", "--settle-s", "0", "--json"]
    command = [sys.executable, "-m", "benchmarks.storm", *options]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    figures = report["figures"]

    assert figures["background_in_flight_max"] <= 2
    assert figures["paid_twice"] <= figures["killed_in_flight"]
    assert figures["calls_per_turn"] > 0
    assert report["groups"]["calls"]["reward.r_human"] >= 3
