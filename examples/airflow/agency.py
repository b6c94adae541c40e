"""An agency: one task per account, each with its own connection, all on one ledger."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset, Variable, task

from rd_import.airflow_provider import RdImportOperator

with DAG(
    "agency_orders_to_rd_station",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
) as dag:

    @task
    def accounts() -> list[dict[str, str]]:
        """Give connection and file of each account; here from a Variable, often from a table."""
        found: list[dict[str, str]] = Variable.get("rd_accounts", deserialize_json=True)
        return found

    @task
    def total(results: list[dict[str, object]]) -> int:
        """Sum up what the tasks returned: counts, no rows."""
        return sum(one["states"].get("accepted", 0) for one in results)  # type: ignore[attr-defined]

    imported = RdImportOperator.partial(
        task_id="import",
        type="ECOMMERCE_ORDER_PLACED",
        ledger_conn_id="rd_ledger",
        past="skip",
        outlets=[
            Asset(name="rd_station", uri="rdstation://agency/")
        ],  # mapped tasks have none by default
        max_active_tis_per_dagrun=16,  # accounts at once; each is paced on its own
    ).expand_kwargs(accounts())
    total(imported.output)
