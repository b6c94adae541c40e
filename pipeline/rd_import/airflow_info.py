"""What Airflow asks of a provider. It is loaded while Airflow itself is loading, so it imports nothing of Airflow."""

from importlib.metadata import version
from typing import Any

_PROVIDER = "rd_import.airflow_provider"


def get_provider_info() -> dict[str, Any]:
    """Describe the connection type, its form, and the links of the operators."""
    return {
        "package-name": "rd-import",
        "name": "RD Station Marketing",
        "description": "Bulk import of events into RD Station Marketing: every row accounted for, none sent twice.",
        "versions": [version("rd-import")],
        "hooks": [
            {"integration-name": "RD Station Marketing", "python-modules": [_PROVIDER]},
        ],
        "operators": [
            {"integration-name": "RD Station Marketing", "python-modules": [_PROVIDER]},
        ],
        "extra-links": [
            f"{_PROVIDER}.ReportLink",
            f"{_PROVIDER}.AuditLink",
            f"{_PROVIDER}.RejectedLink",
        ],
        "connection-types": [
            {
                "connection-type": "rdstation",
                "hook-class-name": f"{_PROVIDER}.RdStationHook",
                "hook-name": "RD Station Marketing",
                "ui-field-behaviour": {
                    "hidden-fields": ["port", "schema"],
                    "relabeling": {
                        "host": "Address (empty for RD Station itself)",
                        "login": "Client id",
                        "password": "Access token",
                    },
                    "placeholders": {"host": "https://api.rd.services"},
                },
                "conn-fields": {
                    "client_secret": _field("Client secret", secret=True),
                    "refresh_token": _field("Refresh token", secret=True),
                    "api_key": _field("API key (conversions only)", secret=True),
                    "account": _field("Account: its name in the ledger"),
                    "plan": _field("Plan: light, basic, pro or advanced"),
                },
            }
        ],
    }


def _field(label: str, *, secret: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    return {"label": label, "schema": schema | ({"format": "password"} if secret else {})}
