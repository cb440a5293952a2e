"""The benchmarks run, on a small scale: what they count holds there too; what they measure says nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
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
