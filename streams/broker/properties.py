"""The texts that the broker is started with: server.properties, log4j2.xml, the JVM's arguments. Pure."""

from pathlib import Path

from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.ports import Ports

MIB = 1024**2

# One node for one machine: few threads, few internal partitions, no waiting for members that will not come.
FIXED = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.segment.bytes": str(16 * MIB),
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.segment.bytes": str(16 * MIB),
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A start after a kill waits until the controller has given up the killed broker; Kafka's 9 s are for a network.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.coordinator.threads": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
    "compression.type": "producer",
    "log.segment.bytes": str(128 * MIB),
    "log.index.size.max.bytes": str(MIB),
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(16 * MIB),
}


def server_properties(options: BrokerOptions, ports: Ports, data: Path) -> str:
    """The broker's configuration.

    Args:
        options: sizes and limits.
        ports: the two ports, bound to 127.0.0.1 only.
        data: absolute folder of the logs of the topics.

    Returns:
        The text of a Java properties file (ASCII).
    """
    settings = {
        **FIXED,
        "controller.quorum.voters": f"1@127.0.0.1:{ports.controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{ports.broker},CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports.broker}",
        "log.dirs": str(data),
        "message.max.bytes": str(options.message_bytes),
    }
    return "".join(f"{key}={escape(value)}\n" for key, value in sorted(settings.items()))


def escape(value: str) -> str:
    r"""A value as a Java properties file wants it: backslashes doubled, all but printable ASCII as \uXXXX."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def log4j2_xml(options: BrokerOptions) -> str:
    """The broker's logging: one file, rolled by size; its path comes as the system property `callstream.log`."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <RollingFile name="file" fileName="${{sys:callstream.log}}" filePattern="${{sys:callstream.log}}.%i">
      <PatternLayout pattern="%d %p %c{{1}}: %.-4000m%n"/>
      <SizeBasedTriggeringPolicy size="{options.log_bytes}"/>
      <DefaultRolloverStrategy max="{options.logs_kept}"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def jvm_arguments(options: BrokerOptions, folder: Path, logs: Path) -> list[str]:
    """What follows `java` and comes before the class path.

    Args:
        options: the heap.
        folder: absolute data folder, holding `tmp/`.
        logs: absolute folder of the log file, holding `log4j2.xml`.
    """
    return [
        f"-Xmx{options.heap_bytes // MIB}m",
        "-Xms64m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dcallstream.log={logs / 'broker.log'}",
        f"-Dlog4j2.configurationFile={(logs / 'log4j2.xml').as_uri()}",
    ]
