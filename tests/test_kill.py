"""Real processes, killed at random moments and started again: nothing is lost, and nothing is sent twice."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import pytest

from rd_import.ledger import Ledger
from rd_import.ledger_check import differences
from rd_import.sandbox import Behaviour, Sandbox
from victim import TYPE, Promise, Victim, Zygote, save_orders

SERVER: Final = Behaviour(latency_ms=15)
WORDS: Final = ("orders.csv", *TYPE, "--json")
KILLS_OF_A_STORY: Final = 6
STORIES_AT_MOST: Final = 12


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


@pytest.fixture(scope="module")
def duration(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a whole life takes on this machine, its imports aside; the second one counts."""
    took = 0.0
    for _ in range(2):
        folder = tmp_path_factory.mktemp("measured")
        save_orders(folder / "orders.csv", 130)
        with Sandbox(behaviour=SERVER) as sandbox:
            began = time.monotonic()
            assert start(zygote, folder, sandbox, *WORDS, "--max-body", 2000).end() == 0
            took = time.monotonic() - began
    return took


def start(
    zygote: Zygote, folder: Path, sandbox: Sandbox, *words: object, ledger: str | None = None
) -> Victim:
    env = {"RD_IMPORT_BASE_URL": sandbox.url, "RD_IMPORT_TOKEN": sandbox.token}
    if ledger is not None:
        env["RD_IMPORT_LEDGER"] = ledger
    return zygote.run(*words, folder=folder, env=env)


def audits(folder: Path) -> list[Path]:
    """Every audit that stands under its own name; each must be whole at any moment, the open ones too."""
    found = [*folder.glob("*.parquet"), *folder.glob("*.open")]
    for path in found:
        with suppress(FileNotFoundError):  # another process may just have replaced its open audit
            pq.read_table(path)
    return found


class Story:
    """One file, and one ledger, through several lives."""

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        sandbox: Sandbox,
        dice: random.Random,
        ledger: str | None = None,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.promise = Promise(folder, address=ledger)
        self.orders = dice.randint(60, 200)
        self._zygote = zygote
        self._sandbox = sandbox
        self._dice = dice
        self._words = (*WORDS, "--max-body", dice.choice((1000, 2000, 4000)))
        self._audit = dice.choice((None, "same.parquet", "other {}.parquet"))
        self._lives = 0
        save_orders(folder / "orders.csv", self.orders)

    def life(self, *, may_resume: bool = True, audit: str | None = None) -> Victim:
        """Start the same command once more, or now and then `resume`."""
        self._lives += 1
        words: tuple[object, ...] = self._words
        if may_resume and self._lives > 1 and self._dice.random() < 0.25:
            words = ("resume", "--json")
        audit = audit or self._audit
        if audit is not None:
            words = (*words, "--audit", audit.format(self._lives))
        elif list(self.folder.glob("*.parquet")):
            time.sleep(1)  # by default an audit is named by the second in which its run began
        address = self.promise.address
        return start(self._zygote, self.folder, self._sandbox, *words, ledger=address)

    def kill(self, victim: Victim, after: float) -> bool:
        """Kill a process after so many seconds; False where it ended by itself before."""
        victim.wait(after)
        victim.kill()
        code = victim.end()
        if code != -9:
            assert ended_well(code, victim.text()), victim.text()
            return False
        self.promise.note_kill()
        audits(self.folder)
        return True

    def finish(self) -> None:
        """Let the command come to its end, and judge."""
        last = self.life(may_resume=False, audit="last.parquet")
        code = last.end()
        assert code in {0, 5}, last.text()
        rows = pq.read_table(self.folder / "last.parquet").to_pylist()
        assert code == (5 if any(row["state"] == "unknown" for row in rows) else 0), last.text()
        self.promise.judge(rows, stored(self._sandbox), self.orders)
        finished = [path for path in audits(self.folder) if path.suffix == ".parquet"]
        with Ledger.open(self.promise.ledger) as ledger:
            assert differences(ledger, finished) == []


def ended_well(code: int, text: str) -> bool:
    """Whether it did its part, or left it to another process that is doing the same run."""
    return code in {0, 5} or (
        code == 2
        and ("has anything left to send" in text or "is being sent right now by another" in text)
    )


def stored(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Identifier and uuid of every event on the server."""
    found = []
    for one in sandbox.events():
        payload = one.event["payload"]
        assert isinstance(payload, dict)
        found.append((payload["identifier"], one.event_uuid))
    return found


def one_after_another(
    zygote: Zygote,
    place: Path,
    duration: float,
    *,
    seed: int,
    kills: int,
    ledger: str | None = None,
) -> None:
    """Kill `kills` processes, each story's one after another, at moments spread over the whole life."""
    dice = random.Random(seed)
    done = 0
    for number in range(STORIES_AT_MOST):
        with Sandbox(behaviour=SERVER) as sandbox:
            story = Story(zygote, place / str(number), sandbox, dice, ledger)
            for _ in range(min(KILLS_OF_A_STORY, kills - done)):
                after = dice.uniform(0, duration)
                if story.kill(story.life(), after):
                    done += 1
                else:
                    duration = after  # a life is shorter than the one that was measured
            story.finish()
        if done == kills:
            return
    raise AssertionError(f"only {done} of {kills} processes lived long enough to be killed")


def two_at_once(
    zygote: Zygote,
    place: Path,
    duration: float,
    *,
    seed: int,
    rounds: int,
    ledger: str | None = None,
) -> None:
    """Two processes do the same job at the same time; one is killed, later the other."""
    dice = random.Random(seed)
    with Sandbox(behaviour=SERVER) as sandbox:
        story = Story(zygote, place / "two", sandbox, dice, ledger)
        for number in range(rounds):
            first = story.life(may_resume=False, audit=f"first {number}.parquet")
            second = story.life(may_resume=False, audit=f"second {number}.parquet")
            story.kill(first, dice.uniform(0, duration))
            if dice.random() < 0.7:
                story.kill(second, dice.uniform(0, duration))
            else:
                assert ended_well(second.end(), second.text()), second.text()
        story.finish()


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_nothing_is_lost_and_nothing_twice(
    seed: int, zygote: Zygote, duration: float, tmp_path: Path
) -> None:
    one_after_another(zygote, tmp_path, duration, seed=seed, kills=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_two_hundred_kills_lose_nothing_and_send_nothing_twice(
    seed: int, zygote: Zygote, duration: float, tmp_path: Path
) -> None:
    one_after_another(zygote, tmp_path, duration, seed=seed, kills=10)


def test_two_processes_with_one_file_are_killed_and_nothing_is_sent_twice(
    zygote: Zygote, duration: float, tmp_path: Path
) -> None:
    two_at_once(zygote, tmp_path, duration, seed=1, rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 208))
def test_many_pairs_of_processes_are_killed_and_nothing_is_sent_twice(
    seed: int, zygote: Zygote, duration: float, tmp_path: Path
) -> None:
    two_at_once(zygote, tmp_path, duration, seed=seed, rounds=4)


@pytest.mark.postgres
def test_killed_at_random_moments_on_postgresql_nothing_is_lost_and_nothing_twice(
    zygote: Zygote, duration: float, tmp_path: Path, postgres: str
) -> None:
    one_after_another(zygote, tmp_path, duration, seed=7, kills=6, ledger=postgres)


@pytest.mark.postgres
def test_two_processes_on_postgresql_are_killed_and_nothing_is_sent_twice(
    zygote: Zygote, duration: float, tmp_path: Path, postgres: str
) -> None:
    two_at_once(zygote, tmp_path, duration, seed=8, rounds=2, ledger=postgres)
