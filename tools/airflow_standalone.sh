#!/usr/bin/env bash
# Starts a whole Airflow on this machine (scheduler, API server, triggerer, DAG processor) with the sandbox behind it,
# triggers the nightly example through the REST API, and waits for its success. Takes two minutes and 2 GB.
#
#     make test-all                    # sets up .venv-schedulers
#     tools/airflow_standalone.sh [PORT]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${SCHEDULERS:-$root/.venv-schedulers}
port=${1:-18080}
home=$(mktemp -d)
export PATH=$venv/bin:$PATH AIRFLOW_HOME=$home/airflow XDG_STATE_HOME=$home/state
export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_FOLDER=$root/examples/airflow
export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=False AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://127.0.0.1:$port/execution/
export AIRFLOW__API__PORT=$port AIRFLOW__API__WORKERS=1 AIRFLOW__API__BASE_URL=http://127.0.0.1:$port
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL=5

rd-import sandbox --port 0 >"$home/sandbox" 2>&1 & sandbox=$!
server=
trap 'kill $sandbox 2>/dev/null; [ -z "$server" ] || kill -- -$server 2>/dev/null; wait; rm -rf "$home"' EXIT
until grep -q TOKEN "$home/sandbox"; do sleep 0.2; done
url=$(sed -n 's/export RD_IMPORT_BASE_URL=//p' "$home/sandbox")
token=$(sed -n 's/export RD_IMPORT_TOKEN=//p' "$home/sandbox")
export AIRFLOW_CONN_RDSTATION_DEFAULT="{\"conn_type\": \"rdstation\", \"host\": \"$url\", \"password\": \"$token\"}"
export AIRFLOW_CONN_RD_LEDGER="{\"conn_type\": \"sqlite\", \"host\": \"$home/ledger.db\"}"
export AIRFLOW_VAR_EXPORTS=$home
cp "$root/sample_data/orders.parquet" "$home/orders-2026-11-20.csv" # what a file is stands in its bytes

setsid airflow standalone >"$home/log" 2>&1 & server=$!
api=http://127.0.0.1:$port
wait_for() { for _ in $(seq 180); do "$@" && return; sleep 1; done; tail -30 "$home/log"; echo "waited too long for: $*" >&2; exit 1; }
healthy() { curl -sf "$api/api/v2/monitor/health" | grep -q '"scheduler":{"status":"healthy"'; }
wait_for healthy
bearer="Authorization: Bearer $(curl -s "$api/auth/token" | sed 's/.*access_token":"\([^"]*\).*/\1/')"
call() { curl -s -H "$bearer" -H 'content-type: application/json' "$@"; }
known() { call "$api/api/v2/dags/nightly_orders_to_rd_station" | grep -q '"dag_id"'; }
wait_for known
call -X POST "$api/api/v2/pools" -d '{"name": "rdstation", "slots": 1}' >/dev/null
call -X POST "$api/api/v2/dags/nightly_orders_to_rd_station/dagRuns" \
    -d '{"dag_run_id": "by-hand", "logical_date": "2026-11-20T03:00:00Z", "run_after": "2026-11-20T03:00:00Z"}' >/dev/null
run=$api/api/v2/dags/nightly_orders_to_rd_station/dagRuns/by-hand
over() { call "$run" | grep -Eq '"state":"(success|failed)"'; }
wait_for over
call "$run/taskInstances/import/xcomEntries/return_value"; echo
call "$run/taskInstances/import/links"; echo
call "$run" | grep -q '"state":"success"' || { tail -50 "$home/log"; exit 1; }
echo "the run ended well"
