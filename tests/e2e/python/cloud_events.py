"""Writes CloudEvents to a topic with the SDK of the CloudEvents project and Confluent's client.

    cloud_events.py BOOTSTRAP TOPIC MODE FIRST COUNT

MODE is "binary" or "structured"; the events have the numbers from FIRST on.
"""

import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer


def event(number):
    return CloudEvent(
        attributes={
            "id": f"event-{number}",
            "source": "/shop/orders",
            "type": "order.placed",
            "specversion": "1.0",
            "subject": f"order-{number}",
            "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
            "datacontenttype": "application/json",
            "partitionkey": f"customer-{number % 7}",
        },
        data={"order_id": number, "cents": number * 10},
    )


def main():
    bootstrap, topic, mode, first, count = sys.argv[1:]
    write = {"binary": to_binary, "structured": to_structured}[mode]
    refused = []
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(int(first), int(first) + int(count)):
        message = write(event(number), JSONFormat())
        producer.produce(
            topic,
            key=message.key,
            value=message.value,
            headers=list(message.headers.items()),
            on_delivery=lambda error, _: refused.append(error) if error else None,
        )
    left = producer.flush(60)
    if left or refused:
        sys.exit(f"{left} events were not sent, {len(refused)} refused: {refused[:1]}")


main()
