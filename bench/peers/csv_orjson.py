"""The fastest script without a frame. csv_orjson.py CSV [grouped|flawed] [URL]; prints requests and bytes."""

import csv
import sys

import orjson
from events import bodies_of, events_of

url = next((word for word in sys.argv[2:] if word.startswith("http")), None)
post = None
if url:
    import requests

    session = requests.Session()
    headers = {"Content-Type": "application/json"}

    def post(body):
        """Send, and read the uuids."""
        answer = session.post(url, data=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return [event["event_uuid"] for event in orjson.loads(answer.content)["events"]]


sizes = []
with open(sys.argv[1], newline="", encoding="utf-8") as file:
    way = dict.fromkeys({"grouped", "flawed"}.intersection(sys.argv), True)
    events = events_of(csv.DictReader(file), **way)
    for body in bodies_of(map(orjson.dumps, events)):
        sizes.append(len(body))
        if post:
            post(body)
print(orjson.dumps({"requests": len(sizes), "bytes": sum(sizes)}).decode())
