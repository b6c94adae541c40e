"""Runs a DAG to its end in this process, as `dag.test()` does, and prints what became of its tasks.

Run with Airflow's Python: run.py DAGS DAG_ID [DATE]. With `init` for DAGS, it makes the database.
"""

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path


def main() -> None:
    if sys.argv[1] == "init":
        from airflow.utils.db import initdb

        initdb()
        return
    spec = importlib.util.spec_from_file_location("dags_of_a_test", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = next(one for one in vars(module).values() if getattr(one, "dag_id", "") == sys.argv[2])
    from rd_import import send

    send.MAX_ATTEMPTS = 2  # of a request, then the run stops; in earnest 8
    if sys.argv[2] == "waits":
        send.DEFER_AT_LEAST = send.DEFER_AT_MOST = timedelta(
            seconds=2
        )  # in earnest a minute, a day
    moment = datetime.fromisoformat(sys.argv[3]).replace(tzinfo=UTC)
    run = dag.test(logical_date=moment, run_after=moment)
    print("RESULT", json.dumps(result_of(run)))


def result_of(run: object) -> dict[str, object]:
    from airflow.models.asset import AssetEvent
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        tasks = session.query(TaskInstance).filter(TaskInstance.dag_id == run.dag_id)  # type: ignore[attr-defined]
        xcoms = session.query(XComModel).filter(XComModel.dag_id == run.dag_id)  # type: ignore[attr-defined]
        return {
            "state": str(run.state),  # type: ignore[attr-defined]
            "tasks": {
                f"{one.task_id} {one.map_index}": [str(one.state), one.try_number] for one in tasks
            },
            "xcoms": {
                f"{one.task_id} {one.map_index} {one.key}": XComModel.deserialize_value(one)
                for one in xcoms
            },
            "assets": [
                one.extra
                for one in session.query(AssetEvent).filter(AssetEvent.source_dag_id == run.dag_id)
            ],
        }


if __name__ == "__main__":
    Path.cwd()
    main()
