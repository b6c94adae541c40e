"""One task per way in which an import ends, and one that waits for a contact's limit."""

from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG

from rd_import.airflow_provider import RdImportOperator

ENDINGS = {
    "unusable": {"files": "no-such-file.csv"},
    "forbidden": {"conn_id": "rd_forbidden"},
    "asks": {"files": "ambiguous.csv"},
    "refused": {"conn_id": "rd_poison"},
    "tolerated": {"conn_id": "rd_poison", "fail_on": ()},
    "unreachable": {"conn_id": "rd_nowhere"},
}

with DAG("endings", schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as dag:
    for name, words in ENDINGS.items():
        RdImportOperator(
            **{
                "task_id": name,
                "files": "orders.csv",
                "type": "ECOMMERCE_ORDER_PLACED",
                "conn_id": "rdstation_default",
                "ledger_conn_id": "rd_ledger",
                "retries": 1,
                "retry_delay": timedelta(0),
                "audit_folder": str(Path.cwd()),
                **words,
            }
        )

with DAG("waits", schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as waits:
    RdImportOperator(
        task_id="import",
        files="limited.csv",
        type="ECOMMERCE_ORDER_PLACED",
        conn_id="rdstation_default",
        ledger_conn_id="rd_ledger",
        audit_folder=str(Path.cwd()),
    )
