"""`pit kafka`: how far the courier is, and to have it send messages again."""

import click

from conf.options import configured
from conf.settings import Settings


@click.group()
def kafka() -> None:
    """Look after the messages in Kafka."""


@kafka.command("status")
@configured
def status(settings: Settings) -> None:
    """How far each topic is, and what it holds now."""
    from bus.eventlog import Reader
    from persist import kafka_position
    from persist.store import StoreDown, StoreWrong

    _need_brokers(settings)
    durable = Reader(settings.paths.events_dir).durable_number
    try:
        position = kafka_position.load(settings.paths)
        click.echo(f"brokers {settings.kafka.brokers}; the exchange has had {durable:,} events")
        if position is None:
            click.echo("nothing was sent yet")
            return
        for topic, place in position.places.items():
            click.echo(
                f"{topic}: up to event {place.event:,}, {durable - place.event:,} behind; offset {place.offset:,}"
            )
        for line in _held(settings, tuple(position.places)):
            click.echo(line)
    except (StoreDown, StoreWrong, OSError) as error:
        raise click.ClickException(str(error)) from None


def _held(settings: Settings, topics: tuple[str, ...]) -> list[str]:
    """What the topics hold. Raises StoreDown, StoreWrong."""
    from persist.kafka_link import Link

    link = Link(settings.kafka.brokers, lambda: None)
    try:
        link.open(topics)
        ranges = {topic: link.range_of(topic) for topic in topics}
    finally:
        link.close()
    return [
        f"{topic}: Kafka has {there.end - there.begin:,} messages, offsets {there.begin:,} to {there.end:,}"
        for topic, there in ranges.items()
    ]


@kafka.command("resend")
@click.option(
    "--after", "after_event", type=click.IntRange(0), required=True, metavar="EVENT", help="0: from the first."
)
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only to this one; may be given repeatedly.")
@configured
def resend(settings: Settings, after_event: int, topics: tuple[str, ...]) -> None:
    """Send the messages of all events after EVENT again.

    What the topics hold stays there, so consumers see them twice. The courier does it: within seconds if it runs,
    else when it starts.
    """
    from bus.eventlog import Reader
    from persist import kafka_position
    from persist.kafka_messages import TOPICS
    from persist.store import StoreWrong

    _need_brokers(settings)
    events_topic = settings.kafka.events_topic
    known = (*TOPICS, events_topic) if events_topic else TOPICS
    if unknown := [topic for topic in topics if topic not in known]:
        raise click.UsageError(f"there is no topic {', '.join(unknown)}; there are {', '.join(known)}")
    durable = Reader(settings.paths.events_dir).durable_number
    if after_event > durable:
        raise click.UsageError(f"--after {after_event}: the exchange has had {durable:,} events")
    try:
        position, earlier = kafka_position.load(settings.paths), kafka_position.load_resend(settings.paths)
        if position is None:
            raise click.UsageError("nothing was sent yet: [kafka] start says where the courier begins")
        done = max(position.resent, earlier.number if earlier else 0)
        kafka_position.save_resend(settings.paths, kafka_position.Resend(done + 1, after_event, topics or known))
    except (StoreWrong, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"the courier is asked to send the messages after event {after_event:,} again")


def _need_brokers(settings: Settings) -> None:
    if not settings.kafka.brokers:
        raise click.UsageError("Kafka is off: set [kafka] brokers")
