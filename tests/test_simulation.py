"""Thousands of seeded runs in a world of faults: the promise holds at every moment, and faults over, each run ends."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from rd_import.key_line import KeyLine, Policy
from rd_import.ledger import Ledger
from simulation import FAULTS, Clock, Crash, Server, World, event, run_to_end, state_of

SEEDS = int(os.environ.get("RD_IMPORT_SIMULATIONS", "10000"))
PARTS = 40
CRASHES = ("before the first byte", "after the body left", "before the answer is recorded")


def one_run(seed: int, ledger: Ledger, folder: Path) -> dict[str, int]:
    """Two processes with overlapping events among faults, crashes and pauses; then calm weather until all is done."""
    dice = random.Random(seed)
    random.seed(seed)  # tenacity's jitter
    world = World(
        folder, ledger.account(f"world {seed}"), Clock(), Server(names_index=dice.random() < 0.7)
    )
    events = [event(number) for number in range(dice.randint(3, 14))]
    mended = [event(one.ordinal, 2) if dice.random() < 0.1 else one for one in events]
    everything = [*events, *mended]
    world.server.bad = {one.body for one in events if dice.random() < 0.06}
    share, crashing = dice.choice([0.0, 0.1, 0.3, 0.9]), dice.choice([0.0, 0.05, 0.2])
    at_least_once = dice.random() < 0.15
    fuse_unknowns = 0
    for life in range(dice.randint(1, 4)):
        processes = []
        for name, file in (("A", events), ("B", mended)):
            if name == "B" and dice.random() < 0.5:
                continue
            policy = Policy(resend_unknown=at_least_once)
            processes.append(
                world.process(
                    ledger,
                    file,
                    run=f"run {seed} {life} {name}",
                    dice=dice,
                    fate=lambda _: dice.choice(FAULTS) if dice.random() < share else None,
                    crash=lambda place: dice.random() < crashing and place in CRASHES,
                    policy=policy,
                    body=dice.choice([150, 300, 700]),
                    workers=dice.randint(1, 4),
                )
            )
        live = dict(enumerate(processes))
        while live:
            at = dice.choice(sorted(live))
            steps, sender, network = live[at]
            try:
                if dice.random() < 0.03:  # the others go on while this one sleeps
                    world.clock.advance(dice.choice([1, 70, 130]))
                next(steps)
            except StopIteration:
                fuse_unknowns = max(fuse_unknowns, sender.sending.unknown_requests)
                del live[at]
            except Crash:
                network.lose_everything()
                ledger.end_process(sender._process)
                del live[at]
            assert world.violations(ledger, everything) == [], f"seed {seed}"
        world.clock.advance(400)
        for _, _, network in processes:
            network.arrive()
        assert world.violations(ledger, everything) == [], f"seed {seed}"
    assert fuse_unknowns <= 10, f"seed {seed}: the fuse let {fuse_unknowns} unknown requests pass"
    for calm in range(40):
        world.clock.advance(100_000)
        steps, sender, _ = world.process(ledger, mended, run=f"run {seed} calm {calm}", dice=dice)
        run_to_end(steps)
        if sender.sending.stopped_by is None:
            break
    assert world.violations(ledger, everything) == [], f"seed {seed}"
    lines = ledger.lines(world.account, [one.key for one in mended])
    states = Counter(state_of(lines.get(one.key, KeyLine()), one) for one in mended)
    assert states["not_sent"] == 0, f"seed {seed}: {dict(states)}"
    assert sum(states.values()) == len(mended)
    return dict(states)


def many_runs(seeds: range, folder: Path, place: Path | str) -> None:
    states: Counter[str] = Counter()
    with Ledger.open(place) as ledger:
        for seed in seeds:
            states.update(one_run(seed, ledger, folder))
    assert min(states["accepted"], states["unknown"]) > 0


@pytest.mark.parametrize("part", range(8))
def test_the_promise_holds_in_hundreds_of_faulty_runs(part: int, tmp_path: Path) -> None:
    """`accepted ⊆ server ⊆ accepted ∪ unknown` after every step, and nothing twice unless it was ordered."""
    many_runs(range(part, 400, 8), tmp_path, tmp_path / "ledger.db")


@pytest.mark.postgres
def test_the_promise_holds_on_postgresql(postgres: str, tmp_path: Path) -> None:
    many_runs(range(60), tmp_path, postgres)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_the_promise_holds_in_thousands_of_faulty_runs(part: int, tmp_path: Path) -> None:
    """The same, over many more seeds: RD_IMPORT_SIMULATIONS says how many."""
    many_runs(range(400 + part, 400 + SEEDS, PARTS), tmp_path, tmp_path / "ledger.db")


def test_the_same_seed_gives_the_same_ledger(tmp_path: Path) -> None:
    dumps = []
    for name in ("one", "two"):
        with Ledger.open(tmp_path / f"{name}.db") as ledger:
            for seed in range(20):
                one_run(seed, ledger, tmp_path)
            with ledger.store.reading() as connection:
                tables = ("keys", "requests", "refusals", "runs", "accounts")
                wanted = [f"SELECT * FROM {name}" for name in tables]  # noqa: S608
                dumps.append([sorted(map(repr, connection.exec_driver_sql(one))) for one in wanted])
    assert dumps[0] == dumps[1]
