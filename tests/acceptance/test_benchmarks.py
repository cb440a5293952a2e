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
