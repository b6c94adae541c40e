"""A small, strict RD Station on this machine, to practise on and to test against.

It shares no code with the importer but the catalogue, for the language of its page, and only the numbers
in `rdstation_events.api_facts`: a server that encoded or validated with our code would agree with our
mistakes.

    with Sandbox() as sandbox:
        requests.post(sandbox.url + "/platform/events/batch", ...)
        sandbox.events()

Where it is to behave otherwise, it is told so: `Sandbox(behaviour=Behaviour(bad_event="partial"))`,
or `Sandbox(behaviour=Scenario.load("quota-then-recovers").behaviour)`.
"""

from rd_import.sandbox.scenario import Scenario
from rd_import.sandbox.server import Sandbox
from rd_import.sandbox.store import StoredEvent, StoredRequest
from rd_import.sandbox.switches import Behaviour, Fault

__all__ = ["Behaviour", "Fault", "Sandbox", "Scenario", "StoredEvent", "StoredRequest"]
