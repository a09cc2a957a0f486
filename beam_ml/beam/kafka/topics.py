"""Topics made where there are none: for tools and trials; a deployment's topics are its operators'."""

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from beam_ml.beam.kafka.connection import Connection, resolve, translate

__all__ = ["make_topic"]

_ADMIN = frozenset(KafkaAdminClient.DEFAULT_CONFIG)


def make_topic(connection: Connection, topic: str, partitions: int) -> bool:
    """Make a topic, its replicas as the cluster's default has them; False: there is one already, left as it is.

    Args:
        connection: how to reach the brokers.
        topic: its name.
        partitions: how many.

    Raises:
        SourceUnavailable: the brokers do not answer in time, or refuse this user.
        InvalidValue: options or a name that Kafka does not take.
    """
    options = {name: value for name, value in resolve(connection.client).items() if name in _ADMIN}
    where = f"Topic {topic} at {connection.brokers}"
    try:
        admin = KafkaAdminClient(bootstrap_servers=connection.brokers.split(","), **options)
    except (KafkaError, ValueError, OSError) as error:
        raise translate(error, where) from error
    try:
        admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": -1}}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return False
    except (KafkaError, ValueError) as error:
        raise translate(error, where) from error
    finally:
        admin.close()
    return True
