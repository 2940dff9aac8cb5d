"""The soak in its short form (tests/soak, docs/soak.md): everything under load while it is killed, then all must agree.

It takes both CPUs of a small machine. PIT_SOAK_S says for how long there is load.
"""

import os
from pathlib import Path

import click
import pytest

from tests.soak.report import text_of
from tests.soak.run import Plan, soak

SECONDS = float(os.environ.get("PIT_SOAK_S", "75"))
SEED = 20_26
START_AND_END_S = 500  # at most; it takes half a minute


@pytest.mark.timeout(SECONDS * 3 + START_AND_END_S)
@pytest.mark.alone
def test_everything_agrees_after_a_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(seconds=SECONDS, seed=SEED, trader_count=3, trader_interval_s=0.15, bot_interval_s=0.15, owner_count=3)
    try:
        outcome = soak(plan, tmp_path / "soak", lambda _: None)
    except click.ClickException as missing:  # a server that is not installed
        pytest.skip(str(missing))
    assert outcome.agrees, text_of(outcome)
    assert outcome.command_count > SECONDS
    with capsys.disabled():
        kills = [done for done in outcome.done if done.kind == "kill"]
        print(
            f"\n{outcome.command_count:,} commands, {outcome.event_count:,} events, {len(outcome.done)} troubles, "
            f"{len(kills)} of them kills: {sum(each.agrees for each in outcome.findings)} checks agree"
        )
