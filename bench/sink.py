"""Take request bodies on loopback and answer as RD Station would, at once or after `--latency-ms`.

    python bench/sink.py --port 8765    # GET /stats tells what came

It reads each body as JSON, so that no contender is spared a server that does its work.
"""

import argparse
import json
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sink(ThreadingHTTPServer):
    """Counts requests, bytes and events."""

    request_queue_size = 128

    def __init__(self, port: int, latency_ms: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.latency_s = latency_ms / 1000
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget what came."""
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Sink
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.lock:
            self._answer({**self.server.counts, "unique": len(self.server.seen)})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/clear":
            with self.server.lock:
                self.server.clear()
            self._answer({})
            return
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        content = json.loads(body)
        events = content if isinstance(content, list) else [content]
        with self.server.lock:
            self.server.counts.update(requests=1, bytes=len(body), events=len(events))
            self.server.seen.update(event["payload"]["identifier"] for event in events)
        uuids = [{"event_uuid": str(uuid.uuid4())} for _ in events]
        batch = {"event_batch_uuid": str(uuid.uuid4()), "events": uuids}
        self._answer(uuids[0] if isinstance(content, dict) else batch)  # an event alone is no list

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--port", type=int, default=8765)
    words.add_argument("--latency-ms", type=float, default=0)
    asked = words.parse_args()
    Sink(asked.port, asked.latency_ms).serve_forever()
