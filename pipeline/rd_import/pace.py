"""How fast an account may be sent to."""

from dataclasses import dataclass
from typing import Self

from rd_import.errors import JobError
from rd_import.job import Account, is_loopback
from rdstation_events import api_facts


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two requests of an account; 0 leaves requests unpaced."""

    interval_s: float = 0.0

    @classmethod
    def per_minute(cls, requests: float) -> Self:
        """Stay at 99 % of an allowance, so that clocks that differ do not cost a 429."""
        return cls(60.0 / (requests * 0.99))


@dataclass(frozen=True, slots=True)
class Speed:
    """Requests that the account may make a minute; `given` where the person named them."""

    per_minute: float
    given: bool

    @classmethod
    def of(cls, *, plan: str | None, rate: float | None) -> Self:
        """Take a plan's allowance, or the figure that overrides it."""
        return cls(
            api_facts.REQUESTS_PER_MINUTE[plan or "basic"] if rate is None else rate,
            plan is not None or rate is not None,
        )

    def pace(self, account: Account) -> Pace:
        """Give the pace: unpaced on this machine unless a rate was named.

        Raises:
            JobError: Unpaced requests to RD Station, which counts every one.
        """
        if is_loopback(account.base_url) and not self.given:
            return Pace()
        if self.per_minute == 0:
            if not is_loopback(account.base_url):
                raise JobError("unpaced")
            return Pace()
        return Pace.per_minute(self.per_minute)
