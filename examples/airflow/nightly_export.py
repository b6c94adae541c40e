"""Every night: what the shop exported yesterday goes to RD Station."""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from rd_import.airflow_provider import RdImportCheckOperator, RdImportOperator

EXPORTS = "{{ var.value.get('exports', '/data/exports') }}"
# `logical_date` may be null, as after a manual start: the run's own date is always there.
FILE = f"{EXPORTS}/orders-{{{{ dag_run.run_after | ds }}}}.csv"

with (
    DAG(
        "nightly_orders_to_rd_station",
        schedule="0 3 * * *",
        start_date=datetime(2026, 1, 1),
        catchup=False,  # RD Station dates events on arrival: the exports of past nights would all be of today
        max_active_runs=1,
        default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    ) as dag
):
    orders = {
        "files": FILE,
        "type": "ECOMMERCE_ORDER_PLACED",
        "conn_id": "rdstation_default",
        "ledger_conn_id": "rd_ledger",
        "past": "skip",
    }
    looked_at = RdImportCheckOperator(task_id="check", **orders)
    imported = RdImportOperator(
        task_id="import",
        pool="rdstation",  # of one slot: an account's requests a minute are shared, more tasks only wait
        fail_on={"unknown", "refused"},
        **orders,
    )
    looked_at >> imported
