"""A Kafka broker that asks for passwords, in the clear and over TLS, creates no topics and takes no long messages."""

import subprocess
from pathlib import Path

from tests.broker import Broker

SCRAM_USER, SCRAM_PASSWORD = "alice", "scram-hunter2"
PLAIN_USER, PLAIN_PASSWORD = "bob", "plain-hunter2"
STORE_PASSWORD = "store-hunter2"
MAX_MESSAGE_BYTES = 200_000
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


def jaas(module: str, user: str, password: str) -> str:
    """Kafka's setting sasl.jaas.config of a user."""
    return f'{module} required username="{user}" password="{password}";'


def secured_broker(directory: Path) -> Broker:
    """Its addresses are PLAINTEXT for all, PASSWORD (SCRAM and PLAIN) and TLS (SCRAM), with certificate_of to trust."""
    directory.mkdir(parents=True)
    store = directory / "broker.p12"
    _keytool(store, "-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", "SAN=ip:127.0.0.1", "-validity", "2")
    certificate_of(directory).write_text(_keytool(store, "-exportcert", "-rfc"))
    settings = {
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "listener.name.password.sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        "listener.name.password.scram-sha-256.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.password.plain.sasl.jaas.config": (
            f'{PLAIN_MODULE} required user_{PLAIN_USER}="{PLAIN_PASSWORD}";'
        ),
        "listener.name.tls.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.tls.scram-sha-256.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.tls.ssl.keystore.location": store,
        "listener.name.tls.ssl.keystore.password": STORE_PASSWORD,
        "listener.name.tls.ssl.key.password": STORE_PASSWORD,
        "listener.name.tls.ssl.keystore.type": "PKCS12",
    }
    return Broker(
        directory,
        listeners={"PASSWORD": "SASL_PLAINTEXT", "TLS": "SASL_SSL"},
        settings=settings,
        users={SCRAM_USER: SCRAM_PASSWORD},
    )


def certificate_of(directory: Path) -> Path:
    return directory / "certificate.pem"


def _keytool(store: Path, command: str, *arguments: str) -> str:
    place = ["-alias", "broker", "-keystore", str(store), "-storetype", "PKCS12", "-storepass", STORE_PASSWORD]
    done = subprocess.run(
        ["keytool", command, *place, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
