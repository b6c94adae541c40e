"""Airflow's hook, operators and links: an import as a task that may be killed and retried at any moment.

A retry goes on with the run that the task instance began, found by dag, run, task and map index; if that is gone
(another worker), the ledger keeps what was sent from going twice. What a retry cannot mend fails for good; an outage is
retried; rows that wait for a contact's limit wait in the triggerer, which takes no worker.
"""

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import Asset, BaseHook, BaseOperator, BaseOperatorLink, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from rd_import.auth import Credentials, Tokens, TokenStore, token_store
from rd_import.errors import LedgerError, RdImportError, ServiceError
from rd_import.importer import check, resume, run
from rd_import.job import Account, Delivery, Job
from rd_import.key_line import Policy
from rd_import.mapping_file import read_mapping
from rd_import.report import write_report
from rd_import.run_folder import RunFolder, state_folder
from rd_import.send import Sending
from rd_import.service import RdStation
from rd_import.values import RunResult
from rd_import.watcher import Watcher
from rdstation_events import api_facts

REFUSED_BY_DEFAULT: Final = frozenset({"unknown", "refused"})
HOPELESS: Final = frozenset({2, 4, 7})  # exit codes that a retry cannot change


class RdStationHook(BaseHook):
    """A connection of type `rdstation`: an account with its credentials.

    The access token stands in the password, the client id in the login; client secret, refresh token, API key, account
    label and plan in the extra. Tasks may not write connections, so a renewed refresh token goes to the Variable
    `rd_import_refresh_token_<conn_id>`, which then wins.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "rdstation_default"
    conn_type = "rdstation"
    hook_name = "RD Station Marketing"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def get_conn(self) -> Account:
        """Give the account."""
        connection = self.get_connection(self.conn_id)
        extra = connection.extra_dejson
        host = connection.host or api_facts.BASE_URL
        return Account(
            token=connection.password or "",
            client_id=connection.login or "",
            client_secret=extra.get("client_secret") or "",
            refresh_token=extra.get("refresh_token") or "",
            api_key=extra.get("api_key") or "",
            base_url=(host if "://" in host else f"https://{host}").rstrip("/"),
            label=extra.get("account") or self.conn_id,
        )

    @property
    def plan(self) -> str | None:
        """Give the account's plan, where the connection names it."""
        return self.get_connection(self.conn_id).extra_dejson.get("plan") or None

    def tokens(self) -> TokenStore:
        """Give where renewed tokens are kept."""
        return VariableTokens(f"rd_import_refresh_token_{self.conn_id}")

    def test_connection(self) -> tuple[bool, str]:
        """Renew the token where there is what renews it; else say that there is one."""
        try:
            account = self.get_conn()
            lock = state_folder() / "tokens.lock"
            credentials = Credentials(account, store=self.tokens, lock=lock)
            if account.refresh_token:
                credentials.renew(credentials.generation)
                return True, "RD Station renewed the token"
            with contextlib.closing(RdStation(account, credentials, timeout_s=30)) as service:
                service.ready()
        except RdImportError as error:
            return False, str(error)
        return (
            True,
            "there is a token or key; only sending an event tells whether RD Station takes it",
        )


class VariableTokens:
    """Renewed tokens in a Variable, whose name has Airflow mask it; in the token store where none can be set."""

    def __init__(self, key: str) -> None:
        self._key = key

    def load(self, name: str) -> Tokens | None:
        """Give what is stored."""
        found = Variable.get(self._key, default=None)
        if found is None:
            return self._elsewhere().load(name)
        return Tokens(**json.loads(found))

    def save(self, name: str, tokens: Tokens) -> None:
        """Store tokens."""
        text = json.dumps({"access": tokens.access, "refresh": tokens.refresh})
        try:
            Variable.set(self._key, text)
        except Exception:  # noqa: BLE001 -- whatever forbids it: a token that is not kept is lost
            self._elsewhere().save(name, tokens)

    def _elsewhere(self) -> TokenStore:
        return token_store(state_folder() / "tokens.json")


class AuditLink(BaseOperatorLink):
    """Where the audit is."""

    name = "Audit"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 -- Airflow's signature
        """Give the address of the last try's audit."""
        return _address(getattr(operator, "audit", None))


class ReportLink(BaseOperatorLink):
    """Where the report is: one page that says what became of the rows, and why."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 -- Airflow's signature
        """Give the address of the last try's report."""
        return _address(getattr(operator, "report", None))


class RejectedLink(BaseOperatorLink):
    """Where the rejected rows are, to be mended and imported again."""

    name = "Rejected rows"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 -- Airflow's signature
        """Give the address of the first file of rejected rows."""
        return _address(getattr(operator, "rejected", None))


class _OnJob(BaseOperator):
    """What the operators share: a job from connections and templates."""

    template_fields: Sequence[str] = ("files", "type", "map", "audit_folder", "run_folder")

    def __init__(  # noqa: PLR0913 -- the options of the command, all by name
        self,
        *,
        files: str | Sequence[str],
        ledger_conn_id: str,
        type: str | None = None,  # noqa: A002 -- as on the command line
        map: str | None = None,  # noqa: A002 -- as on the command line
        conn_id: str = RdStationHook.default_conn_name,
        max_age: float = 7,
        past: str | None = None,
        repeats: str | None = None,
        changed: str = "skip",
        min_rows: int = 1,
        audit_folder: str | None = None,
        run_folder: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.ledger_conn_id = ledger_conn_id
        self.type = type
        self.map = map
        self.conn_id = conn_id
        self.max_age = max_age
        self.past = past
        self.repeats = repeats
        self.changed = changed
        self.min_rows = min_rows
        self.audit_folder = audit_folder
        self.run_folder = run_folder

    def _delivery(self, hook: RdStationHook, audit: Path | str | None) -> dict[str, Any]:
        return {
            "account": hook.get_conn(),
            "tokens": hook.tokens(),
            "plan": hook.plan,
            "ledger": ledger_of(self.ledger_conn_id),
            "audit_path": audit,
            "policy": Policy(send_changed=self.changed == "send"),
        }

    def _job(self, delivery: Mapping[str, Any], run_dir: Path) -> Job:
        words: dict[str, Any] = (
            {} if self.map is None else {"mapping": read_mapping(Path(self.map))}
        )
        return Job(
            exports=self.files,
            event_type=self.type or "",
            max_age_days=self.max_age,
            past=self.past,
            repeats=self.repeats,
            min_rows=self.min_rows,
            run_dir=run_dir,
            **words,
            **delivery,
        )

    def _name(self, context: Mapping[str, Any]) -> list[str]:
        """Name the task instance: what a retry has in common with the try before."""
        ti = context["ti"]
        parts = [ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)]
        return [re.sub(r"[^\w.-]+", "_", part) for part in parts]

    def _run_dir(self, context: Mapping[str, Any]) -> Path:
        base = Path(self.run_folder) if self.run_folder else state_folder() / "airflow"
        return base.joinpath(*self._name(context))


class RdImportOperator(_OnJob):
    """Import files, and account for every row. Returns what the command prints with `--json`: counts, no rows.

    Args:
        files: Files, folders, patterns and addresses.
        ledger_conn_id: Connection of the ledger: `postgres`, or `sqlite` where there is one worker. There is no
            default, since a worker's own disk is no memory.
        type: Event type; may be left to the mapping.
        map: Mapping file.
        conn_id: Connection of type `rdstation`.
        fail_on: States of rows of which the task fails for good: a retry would not change them.
        max_age: Days from which an event is of the past.
        past: `send` or `skip` events of the past; without it such a file fails.
        repeats: `send` or `skip` events without an id that another file brought; without it such a file fails.
        changed: `send` or `skip` known events with new content.
        min_rows: Fewer rows than this, and the task fails: an empty export is often a broken one.
        audit_folder: Where audits go, a folder or an address; by default beside the first file, or the state folder.
        run_folder: Where run folders go; on a disk that workers share, a retry elsewhere goes on from it.
        deferrable: Rows that wait for a contact's limit wait in the triggerer; else the task fails and is retried.
    """

    operator_extra_links: ClassVar = (ReportLink(), AuditLink(), RejectedLink())

    def __init__(
        self,
        *,
        fail_on: Collection[str] = REFUSED_BY_DEFAULT,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("outlets") is None:
            conn_id = kwargs.get("conn_id", RdStationHook.default_conn_name)
            kwargs["outlets"] = [Asset(name=f"rdstation-{conn_id}", uri=f"rdstation://{conn_id}/")]
        super().__init__(**kwargs)
        self.fail_on = frozenset(fail_on)
        self.deferrable = deferrable
        self.audit: str | None = None
        self.report: str | None = None
        self.rejected: str | None = None
        self._stopping: list[Callable[[], None]] = []

    def execute(self, context: Any) -> dict[str, Any]:
        """Do the import, or go on with what the try before began."""
        run_dir = self._run_dir(context)
        with _as_airflow_says():
            delivery = self._delivery(RdStationHook(self.conn_id), self._audit(context))
            watcher = _Task(self)
            earlier = _unfinished(run_dir)
            if earlier is not None:
                self.log.info("going on with run %s", earlier.run_id)
                result = resume(str(earlier.path), how=Delivery(**delivery), watcher=watcher)
            else:
                result = run(self._job(delivery, run_dir), watcher=watcher)
        return self._conclude(result, context)

    def go_on(self, context: Any, event: Any = None) -> dict[str, Any]:
        """Send what had to wait."""
        del event
        return self.execute(context)

    def on_kill(self) -> None:
        """Stop after the requests in flight: their answers are recorded, the rest is for the next try."""
        for stop in self._stopping:
            stop()

    def _audit(self, context: Mapping[str, Any]) -> str:
        first = self.files if isinstance(self.files, str) else self.files[0]
        local = "://" not in first and Path(first).parent.is_dir()
        folder = self.audit_folder or str(Path(first).parent if local else state_folder())
        return f"{folder.rstrip('/')}/{'.'.join(self._name(context))}.audit.parquet"

    def _conclude(self, result: RunResult, context: Any) -> dict[str, Any]:
        facts = result.as_dict()
        self.audit = facts["audit"]
        if result.audit_path is not None:
            try:
                self.report = facts["report"] = str(write_report(result.audit_path).path)
            except RdImportError as error:  # the import stands all the same
                self.log.warning("%s", error)
        self.rejected = next(iter(facts["rejected_file"]), None)
        self.log.info("%s: %s", result.run_id, facts["states"])
        why = f"{facts['states']}; {result.proof or 'see the audit'}: {self.audit}"
        failing = sorted(self.fail_on & {state for state, rows in result.states.items() if rows})
        if result.exit_code in HOPELESS or result.stopped_by == "refused":
            raise AirflowFailException(why)
        if result.exit_code in {1, 130}:
            raise AirflowException(why)
        if failing:
            raise AirflowFailException(f"rows are {' and '.join(failing)}: {why}")
        if result.states.get("deferred") and self.deferrable:
            self.defer(trigger=DateTimeTrigger(moment=_due(result)), method_name="go_on")
        if result.exit_code == 6:
            raise AirflowException(why)
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {
                "states": facts["states"],
                "audit": self.audit,
            }
        return facts


class RdImportCheckOperator(_OnJob):
    """Compute the preview of an import and send nothing. Fails where nothing would be sent."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Look at the files."""
        with _as_airflow_says():
            hook = RdStationHook(self.conn_id)
            shown = check(self._job(self._delivery(hook, None), self._run_dir(context)))
        for problem in shown.problems:
            self.log.info("%s rows: %s", problem.rows, problem.message)
        if shown.questions:
            raise AirflowFailException("; ".join(shown.questions))
        return {
            "exit_code": shown.exit_code,
            **json.loads(json.dumps(shown.as_dict(), default=str)),
        }


class _Task(Watcher):
    """Logs a run, and stops it when Airflow kills the task."""

    def __init__(self, operator: RdImportOperator) -> None:
        self._operator = operator

    def says(self, text: str) -> None:
        self._operator.log.info(text)

    @contextlib.contextmanager
    def accompanies(
        self, events: int, interval_s: float, wake: Callable[[], None]
    ) -> Iterator[tuple[Callable[[], bool], Callable[[Sending], None]]]:
        self._operator.log.info("%s events may go, a request every %s s", events, interval_s)
        asked: list[bool] = []

        def stop() -> None:
            asked.append(True)
            wake()

        self._operator._stopping.append(stop)  # noqa: SLF001 -- its other half
        yield (lambda: bool(asked)), (lambda _: None)


def ledger_of(conn_id: str) -> Path | str:
    """Give the ledger of a connection: `postgres`, or `sqlite` with its path as host.

    Raises:
        AirflowFailException: It is of another type.
    """
    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type == "sqlite":
        return Path(connection.host or connection.schema or "")
    if connection.conn_type not in {"postgres", "postgresql"}:
        raise AirflowFailException(
            f"{conn_id} is a connection of type {connection.conn_type}: a ledger is postgres or sqlite"
        )
    url = sa.URL.create(
        "postgresql",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query={
            name: str(one) for name, one in connection.extra_dejson.items() if name == "sslmode"
        },
    )
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _as_airflow_says() -> Iterator[None]:
    """Fail for good where only a person can help; else be retried."""
    try:
        yield
    except (LedgerError, ServiceError) as error:
        raise AirflowException(str(error)) from error
    except RdImportError as error:
        raise AirflowFailException(str(error)) from error


def _unfinished(run_dir: Path) -> RunFolder | None:
    """Find the run that an earlier try of this task instance left."""
    for path in sorted(run_dir.glob("*/run.json"), reverse=True):
        with contextlib.suppress(LedgerError):
            folder = RunFolder.open(path.parent)
            if folder.events and folder.has_bodies:
                return folder
    return None


def _due(result: RunResult) -> datetime:
    """Give when the first of the rows that wait may go."""
    assert result.audit_path is not None
    with result.audit_path.open("rb") as file:
        moments = pq.read_table(file, columns=["not_before"])["not_before"]
    due: datetime = pc.min(moments).as_py()
    return due


def _address(place: str | None) -> str:
    if not place:
        return ""
    return place if "://" in place else Path(place).resolve().as_uri()
