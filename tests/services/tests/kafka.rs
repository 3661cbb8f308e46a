//! A genuine broker is started, broken and started again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use idem_test_services::{Error, Kafka, KafkaOptions, ProcessId, Scratch, wait_until};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const KEYED_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";

fn run(kafka: &Kafka, tool: &str, args: &str) -> Result<String, Error> {
    let mut all = vec!["--bootstrap-server", kafka.bootstrap()];
    all.extend(args.split_whitespace());
    kafka.tool(tool, &all)
}

fn produce(kafka: &Kafka, topic: &str, count: u32) -> Result<String, Error> {
    let args = format!("--topic {topic} --num-records {count} --record-size 10 --throughput -1");
    run(kafka, PRODUCER, &args)
}

#[test]
fn what_was_acknowledged_survives_a_kill_on_the_same_port() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-kill")?;
    let mut kafka = Kafka::start(scratch.path())?;
    run(&kafka, TOPICS, "--create --topic orders --partitions 1")?;
    produce(&kafka, "orders", 25)?;
    let (bootstrap, before) = (kafka.bootstrap().to_owned(), kafka.pid());

    kafka.kill()?;
    assert_eq!(ProcessId::of(before), None);
    assert!(TcpStream::connect(&bootstrap).is_err());
    kafka.restart()?;

    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_ne!(kafka.pid(), before);
    assert_eq!(run(&kafka, OFFSETS, "--topic orders")?.trim(), "orders:0:25");

    kafka.stop()?;
    assert!(TcpStream::connect(&bootstrap).is_err());
    kafka.restart()?;
    assert_eq!(run(&kafka, OFFSETS, "--topic orders")?.trim(), "orders:0:25");
    Ok(())
}

#[test]
fn an_operator_rewinds_a_group_with_kafkas_own_tool() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-rewind")?;
    let kafka = Kafka::start(scratch.path())?;
    run(&kafka, TOPICS, "--create --topic orders --partitions 1")?;
    produce(&kafka, "orders", 5)?;
    run(&kafka, CONSUMER, "--topic orders --group billing --from-beginning --max-messages 5")?;
    let described = run(&kafka, GROUPS, "--describe --group billing --offsets")?;
    assert!(described.contains(" 5 "), "{described}");

    let reset = "--reset-offsets --group billing --topic orders --to-earliest --execute";
    let reset = run(&kafka, GROUPS, reset)?;

    assert!(!reset.contains("Error"), "{reset}");
    let again = "--topic orders --group billing --max-messages 5 --timeout-ms 20000";
    assert_eq!(run(&kafka, CONSUMER, again)?.lines().count(), 5);
    Ok(())
}

#[test]
fn retention_happens_while_one_can_watch() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-retention")?;
    let kafka = Kafka::start(scratch.path())?;
    let retained = "--create --topic short --partitions 1 --config retention.ms=100";
    run(&kafka, TOPICS, retained)?;
    produce(&kafka, "short", 10)?;
    wait_until("old records to be deleted", Duration::from_secs(60), || {
        let earliest = run(&kafka, OFFSETS, "--topic short --time -2")?;
        Ok((earliest.trim() == "short:0:10").then_some(()))
    })
}

#[test]
fn compaction_happens_while_one_can_watch() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-compaction")?;
    let kafka = Kafka::start(scratch.path())?;
    let compacted = "--create --topic latest --partitions 1 --config cleanup.policy=compact \
                     --config segment.ms=100 --config min.cleanable.dirty.ratio=0.01";
    run(&kafka, TOPICS, compacted)?;
    wait_until("old values of a key to be deleted", Duration::from_secs(60), || {
        // Each round closes the segment of the one before, and only closed ones are compacted.
        run(&kafka, KEYED_PRODUCER, "--topic latest --max-messages 20 --repeating-keys 2")?;
        let end = run(&kafka, OFFSETS, "--topic latest")?;
        let written = end.trim().rsplit(':').next().and_then(|end| end.parse().ok());
        let read = "--topic latest --from-beginning --timeout-ms 2000";
        let left = run(&kafka, CONSUMER, read)?.lines().count();
        Ok(written.filter(|written: &usize| left < *written).map(|_written| ()))
    })
}

#[test]
fn a_topic_exists_only_when_it_was_created() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-topics")?;
    let kafka = Kafka::start(scratch.path())?;
    let misspelt = "--topic misspelt --max-messages 1 --timeout-ms 2000 --from-beginning";
    // Whether the tool complains is its business; the topic must not appear.
    let _ = run(&kafka, CONSUMER, misspelt);
    assert!(!run(&kafka, TOPICS, "--list")?.contains("misspelt"));

    let error = run(&kafka, TOPICS, "--describe --topic misspelt").unwrap_err();
    assert!(error.to_string().contains("misspelt"), "{error}");
    Ok(())
}

#[test]
fn a_paused_broker_answers_nothing_until_it_is_resumed() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-pause")?;
    let kafka = Kafka::start(scratch.path())?;
    // An ApiVersions request of version 0: key 18, correlation id 1, no client id.
    let request = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";
    let read_with_timeout = |stream: &mut TcpStream, timeout| {
        stream.set_read_timeout(Some(timeout))?;
        stream.read_exact(&mut [0; 8])
    };

    kafka.pause()?;
    let mut stream = TcpStream::connect(kafka.bootstrap()).unwrap();
    stream.write_all(request).unwrap();
    assert!(read_with_timeout(&mut stream, Duration::from_millis(300)).is_err());

    kafka.resume()?;
    read_with_timeout(&mut stream, Duration::from_secs(20)).unwrap();
    Ok(())
}

#[test]
fn a_broker_that_cannot_start_says_why() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-broken")?;
    let options = KafkaOptions {
        properties: vec![("num.io.threads".into(), "many".into())],
        ..KafkaOptions::default()
    };
    let error = Kafka::start_with(scratch.path(), options).unwrap_err();
    assert!(error.to_string().contains("num.io.threads"), "{error}");
    Ok(())
}

#[test]
fn a_broker_is_stopped_by_pid_without_its_handle() -> Result<(), Error> {
    let scratch = Scratch::new("kafka-by-pid")?;
    let dir = scratch.path().join("kafka");
    let kafka = Kafka::start(&dir)?;
    let service = kafka.detached();
    assert!(service.runs());

    service.stop_and_remove()?;

    assert!(!service.runs() && !dir.exists());
    assert!(TcpStream::connect(kafka.bootstrap()).is_err());
    // Twice is as good as once, for a command that was interrupted.
    service.stop_and_remove()
}
