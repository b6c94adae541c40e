"""The numbers and words of the API, each with the page it came from.

Nothing here is code: the pipeline and the sandbox both read these facts, and read nothing else of each other.
"""

from typing import Final

BASE_URL: Final = "https://api.rd.services"
"""Source: "Batch de Eventos" (`POST https://api.rd.services/platform/events/batch`)."""

SINGLE_PATH: Final = "/platform/events"
"""One event as a JSON object. Source: "Eventos"."""

BATCH_PATH: Final = "/platform/events/batch"
"""A JSON array of events. Source: "Batch de Eventos"."""

CONVERSIONS_PATH: Final = "/platform/conversions"
"""One CONVERSION with an API key in the query. Source: "Conversão via API Key"."""

EVENT_FAMILY: Final = "CDP"
"""The only legal `event_family`. Source: "Batch de Eventos"."""

MAX_BODY_BYTES: Final = 200_000
"""Largest request body. Source: "Batch de Eventos" says "0,2Mb"; read as 200,000 bytes, the smallest reading
that a shop's ordinary batch can still meet."""

MAX_LINE_ITEMS: Final = 20
"""Products of one order or cart. Source: the vendor's n8n node (ResultadosDigitais/n8n-nodes-rdsm 0.0.3)."""

MAX_PAYMENT_METHODS: Final = 5
"""Source: the vendor's n8n node."""

MAX_CATEGORIES: Final = 10
"""Categories of one product. Source: the vendor's n8n node."""

REQUESTS_PER_MINUTE: Final = {"light": 120, "basic": 120, "pro": 120, "advanced": 500}
"""Requests to the events endpoints a minute and account, by plan. Source: "Limite de requisições da API"."""

EVENTS_PER_CONTACT_AND_DAY: Final = 120
"""Events of one contact in 24 hours. Source: community notes; the vendor's Ruby client shows 24 in a test."""

REMOVED_TYPES_ACCEPTED_UNTIL: Final = "2025-12-31"
"""Source: "Batch de Eventos"."""

ACCESS_TOKEN_SECONDS: Final = 86_400
"""How long an access token lives. Source: "Autenticação"."""
