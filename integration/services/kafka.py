"""A real Kafka: brokers from Maven's jars, each its own controller too (KRaft), on loopback ports: free ones, or given.

One node or three; any node can be killed and started again on its port and with its data. A second listener asks for
TLS, a password, or both. `python -m services.kafka` (in `integration/`, or `make kafka`) runs one for a person.
"""

import argparse
import base64
import contextlib
import dataclasses
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError
from services.support import (
    free_ports,
    java,
    kill,
    maven_jars,
    pom,
    run_for_a_person,
    start,
    stop,
    tool,
    wait_for_interrupt,
    wait_until,
)

POM = pom("kafka", ["org.apache.kafka:kafka_2.13:4.1.0", "org.slf4j:slf4j-simple:1.7.36"])
USER, PASSWORD = "beam-ml-test", "beam-ml-test-password"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
HOST = "127.0.0.1"
PORT = 9092
"""Where a broker that a person runs listens: the port that README's commands name."""
_READY = b"Kafka Server started"


@dataclasses.dataclass
class Node:
    """One broker, which is a controller too."""

    number: int
    port: int
    folder: Path
    command: tuple[str, ...]
    _process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0

    @property
    def log(self) -> Path:
        """Return the file that has its output."""
        return self.folder / "node.log"

    @property
    def data(self) -> Path:
        """Return the folder with its topics."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """Return its process id; of the last process, if it is down."""
        if self._process is None:
            message = f"Kafka node {self.number} was never started."
            raise RuntimeError(message)
        return self._process.pid

    @property
    def running(self) -> bool:
        """Return whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it on its port and data; with `wait`, until it serves. One of three alone never does: no majority."""
        if not self.running:
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = start(self.command, self.log)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 90.0) -> None:
        """Wait until the cluster counts it among its brokers.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        if self._process is None:
            message = f"Kafka node {self.number} was never started."
            raise RuntimeError(message)
        wait_until(self._is_ready, self._process, f"Kafka node {self.number}", self.log, seconds)

    def _is_ready(self) -> bool:
        with self.log.open("rb") as output:  # said once it is registered and not fenced any more
            output.seek(self._log_start)
            return _READY in output.read()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            kill(self._process)

    def stop(self, seconds: float = 30.0) -> None:
        """End it properly (SIGTERM): it hands its partitions over first; killed after `seconds`."""
        if self._process is not None:
            stop(self._process, seconds)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Running brokers.

    Attributes:
        bootstrap: host:port, several by commas, of the open listener.
        nodes: the brokers.
        secured: host:port, several by commas, of the listener that asks for TLS or a password; empty without one.
        sasl: whether the secured listener asks for a password.
        ca: the certificate that signs the secured listener's; None: it is not encrypted.
    """

    bootstrap: str
    nodes: list[Node]
    secured: str = ""
    sasl: bool = False
    ca: Path | None = None

    @property
    def client(self) -> dict[str, Any]:
        """Return kafka-python's options for the secured listener, all but `bootstrap_servers` (that is `secured`)."""
        return self.login()

    def login(self, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, Any]:
        """Return kafka-python's options for the secured listener, by any mechanism, with a right or a wrong password."""
        if not self.secured:
            return {}
        options: dict[str, Any] = {"security_protocol": _protocol(self.sasl, self.ca is not None)}
        if self.sasl:
            options |= {"sasl_mechanism": mechanism, "sasl_plain_username": USER, "sasl_plain_password": password}
        if self.ca is not None:
            options["ssl_cafile"] = str(self.ca)
        return options

    @contextlib.contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """Return kafka-python's admin client, at the open listener."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap.split(","))
        try:
            yield client
        finally:
            client.close()

    def create_topic(self, name: str, partitions: int = 1, replication: int = 1, **config: Any) -> str:
        """Make a topic, wait until each partition has a leader, and give its name.

        Args:
            name: the topic.
            partitions: how many.
            replication: copies of each partition.
            config: Kafka's topic settings, with `_` or `.` between words: cleanup_policy="compact".
        """
        options = {
            "num_partitions": partitions,
            "replication_factor": replication,
            "configs": {key.replace("_", "."): _setting(value) for key, value in config.items()},
        }
        with self.admin() as client:
            for attempt in range(40):
                try:
                    client.create_topics({name: options}, wait_for_metadata=True)
                    break
                except TopicAlreadyExistsError:  # of a test that runs again
                    if attempt == 39:
                        raise
                    with contextlib.suppress(KafkaError):
                        client.delete_topics([name])
                    time.sleep(0.5)
        return name

    def wait_in_sync(self, name: str, seconds: float = 90.0) -> None:
        """Wait until each partition of a topic has all its copies in sync: then any node may die and nothing waits.

        Raises:
            RuntimeError: they were not in time.
        """
        deadline = time.monotonic() + seconds
        found: Any = "no answer"
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaError), self.admin() as client:
                (found,) = client.describe_topics([name])
                if all(len(one["isr_nodes"]) == len(one["replica_nodes"]) for one in found["partitions"]):
                    return
            time.sleep(0.2)
        message = f"Kafka topic {name} did not get in sync: {found}"
        raise RuntimeError(message)

    def delete_topic(self, name: str) -> None:
        """Remove a topic."""
        with self.admin() as client:
            client.delete_topics([name])


def _setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _protocol(sasl: bool, tls: bool) -> str:
    return f"SASL_{'SSL' if tls else 'PLAINTEXT'}" if sasl else "SSL" if tls else "PLAINTEXT"


def certificate(folder: Path, name: str = "broker") -> tuple[Path, Path]:
    """Make a self-signed certificate for the loopback address that is valid for two days; give (it, its key).

    Raises:
        Unavailable: there is no openssl.
    """
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ["-subj", f"/CN={name}.beam-ml.test", "-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
    command = [tool("openssl", "A broker with TLS"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *subject, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return made, key


def _settings(nodes: int) -> dict[str, Any]:
    copies, most = (3, 2) if nodes >= 3 else (1, 1)
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        # a topic that is not there must be an error
        "auto.create.topics.enable": False,
        "default.replication.factor": copies,
        "min.insync.replicas": most,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": most,
        # small: each partition is files to open at a restart
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "message.max.bytes": 16 << 20,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # soon: after a kill the old session must run out before the new one may begin
        "broker.session.timeout.ms": 2000 if nodes == 1 else 3000,
        "broker.heartbeat.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        # tests shorten retention and compaction by topic; the broker must look often
        "log.initial.task.delay.ms": 500,
        "log.retention.check.interval.ms": 1000,
        "log.cleaner.backoff.ms": 500,
        "log.segment.delete.delay.ms": 1000,
    }


def _sasl_settings() -> dict[str, Any]:
    module = "org.apache.kafka.common.security"
    users = f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}"'
    settings = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.secured.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {users};",
    }
    for mechanism in MECHANISMS[1:]:
        settings[f"listener.name.secured.{mechanism.lower()}.sasl.jaas.config"] = (
            f"{module}.scram.ScramLoginModule required;"
        )
    return settings


def _tls_settings(folder: Path) -> dict[str, Any]:
    made, key = certificate(folder)
    both = folder / "broker-with-key.pem"
    both.write_text(key.read_text() + made.read_text())
    return {"listener.name.secured.ssl.keystore.type": "PEM", "listener.name.secured.ssl.keystore.location": both}


def _java(home: Path, main: str, *arguments: str, heap_mb: int) -> tuple[str, ...]:
    # only the quick compiler: less than half the work until a broker serves, and no more in a test's few minutes
    flags = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", f"-Djava.io.tmpdir={home}")
    return (java("Kafka"), f"-Xmx{heap_mb}m", *flags, "-cp", f"{maven_jars('kafka', POM)}/*", main, *arguments)


@contextlib.contextmanager
def kafka(
    folder: Path,
    nodes: int = 1,
    sasl: bool = False,
    tls: bool = False,
    properties: Mapping[str, Any] | None = None,
    port: int | None = None,
) -> Iterator[Cluster]:
    """Run brokers whose data lie in `folder` until the block ends; they are stopped by their own process ids.

    Args:
        folder: where data, settings and logs go.
        nodes: how many brokers; each is a controller too. Internal topics have three copies with three nodes or more.
        sasl: make the secured listener ask for a password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        tls: make the secured listener speak TLS, with a certificate that is made now.
        properties: Kafka's broker settings that replace or join this module's.
        port: of the first broker's open listener; the others', and those of the secured one, follow. None: free ones.

    Raises:
        Unavailable: Java, Maven or, for TLS, openssl is missing, or the jars cannot be fetched.
        RuntimeError: a broker did not get ready, or a port that was given is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(3 * nodes)
    open_ports, controllers, secured_ports = ports[:nodes], ports[nodes : 2 * nodes], ports[2 * nodes :]
    if port is not None:
        open_ports, secured_ports = [*range(port, port + nodes)], [*range(port + nodes, port + 2 * nodes)]
        refuse_taken([*open_ports, *(secured_ports if sasl or tls else ())])
    cluster_id = (
        base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    )  # "-…" is an option
    common = _settings(nodes)
    common["controller.quorum.voters"] = ",".join(f"{i + 1}@{HOST}:{port}" for i, port in enumerate(controllers))
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    if sasl or tls:
        protocols["SECURED"] = _protocol(sasl, tls)
    common["listener.security.protocol.map"] = ",".join(f"{name}:{kind}" for name, kind in protocols.items())
    if sasl:
        common |= _sasl_settings()
    if tls:
        common |= _tls_settings(folder)
    made, formats = [], []
    for i in range(nodes):
        home = folder / f"node-{i + 1}"
        home.mkdir()
        advertised = f"PLAINTEXT://{HOST}:{open_ports[i]}"
        if sasl or tls:
            advertised += f",SECURED://{HOST}:{secured_ports[i]}"
        own = {
            "node.id": i + 1,
            "listeners": f"{advertised},CONTROLLER://{HOST}:{controllers[i]}",
            "advertised.listeners": advertised,
            "log.dirs": home / "data",
        }
        settings = home / "server.properties"
        everything = {**common, **own, **(properties or {})}
        settings.write_text("".join(f"{key}={_setting(value)}\n" for key, value in everything.items()))
        users = [f"--add-scram={kind}=[name={USER},password={PASSWORD}]" for kind in MECHANISMS[1:]] if sasl else []
        arguments = ("format", "-t", cluster_id, "-c", str(settings), *users)
        formats.append(_java(home, "kafka.tools.StorageTool", *arguments, heap_mb=128))
        run = _java(home, "kafka.Kafka", str(settings), heap_mb=384 if nodes == 1 else 320)
        made.append(Node(i + 1, open_ports[i], home, run))
    formatting = [start(command, node.log) for command, node in zip(formats, made, strict=True)]
    for process, node in zip(formatting, made, strict=True):
        if process.wait() != 0:
            message = f"Kafka's folder could not be formatted: {node.log.read_text()[-1500:]}"
            raise RuntimeError(message)
    try:
        for node in made:
            node.start(wait=False)
        for node in made:
            node.wait_ready()
        secured = ",".join(f"{HOST}:{port}" for port in secured_ports) if sasl or tls else ""
        bootstrap = ",".join(f"{HOST}:{port}" for port in open_ports)
        yield Cluster(bootstrap, made, secured, sasl, folder / "broker.pem" if tls else None)
    finally:
        for node in made:  # nobody needs the data any more: no hand-over
            node.kill()


def refuse_taken(ports: list[int]) -> None:
    """Refuse ports that somebody listens on.

    Raises:
        RuntimeError: one is taken; the sentence says how to take others.
    """
    for port in ports:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((HOST, port))
            except OSError as error:
                message = (
                    f'Port {port} is taken: stop who listens there, or take others: make kafka KAFKA="--port=19092".'
                )
                raise RuntimeError(message) from error


def next_commands(brokers: str) -> str:
    """Return the commands that make a stream of the demo's transactions and train on it, as README has them."""
    return f"""Next, from the root of the checkout in another terminal (the first makes demo/data):
  make demo
  .venv/bin/beam-ml replay demo/data --brokers {brokers} --topic transactions --make-topic 4 --time TX_DATETIME --speed 86400
  .venv/bin/beam-ml train jobs/fraud_kafka.toml --follow --brokers {brokers}
  .venv/bin/beam-ml registry ls registry fraud-kafka"""


def main() -> None:
    """Run brokers until interrupted."""
    parser = argparse.ArgumentParser(description="Run a Kafka for tests until interrupted.")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--sasl", action="store_true", help="a second listener that asks for a password")
    parser.add_argument("--tls", action="store_true", help="a second listener that speaks TLS")
    parser.add_argument(
        "--port", type=int, default=PORT, help="of the first broker; the others' follow (default: %(default)s)"
    )
    given = parser.parse_args()
    try:
        _run(given)
    except RuntimeError as error:
        raise SystemExit(str(error)) from None


def _run(given: argparse.Namespace) -> None:
    with (
        run_for_a_person("kafka") as folder,
        kafka(folder, given.nodes, given.sasl, given.tls, port=given.port) as running,
    ):
        print(f"Kafka runs (process {', '.join(str(node.pid) for node in running.nodes)}); brokers:")
        print(f"  {running.bootstrap}")
        if running.secured:
            print(f"secured:\n  {running.secured}\nkafka-python's options for it:\n  {running.client}")
        print(next_commands(running.bootstrap.replace(HOST, "localhost")))
        wait_for_interrupt()


if __name__ == "__main__":
    main()
