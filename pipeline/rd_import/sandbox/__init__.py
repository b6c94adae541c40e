"""A small, strict RD Station on this machine, to practise on and to test against.

It shares no code with the importer, only the numbers in `rdstation_events.api_facts`: a server
that encoded or validated with our code would agree with our mistakes.

    with Sandbox() as sandbox:
        requests.post(sandbox.url + "/platform/events/batch", ...)
        sandbox.events()
"""

from rd_import.sandbox.server import Sandbox
from rd_import.sandbox.store import StoredEvent, StoredRequest

__all__ = ["Sandbox", "StoredEvent", "StoredRequest"]
