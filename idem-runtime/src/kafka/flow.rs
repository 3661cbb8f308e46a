//! Letting a partition flow, or not: pause, seek, resume, and starting its fetcher again.
//!
//! Each of these is done under `control`, one at a time, and only while the seat is still the
//! partition's: a call that was left behind by a lane that is gone does nothing.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, ErrorKind, Result};
use crate::kafka::fetched::Consumer;
use crate::kafka::ffi;
use crate::kafka::lists::one;
use crate::kafka::settings::kafka_error;
use crate::kafka::source::Client;
use crate::lane::{LaneId, Position};
use crate::pipeline::source::Seat;

/// How long a seek may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How a seek ended.
#[derive(Debug)]
pub(crate) enum Sought {
    /// The partition stands there, paused.
    Yes,
    /// Its fetcher does not run: not yet, or not any more.
    NotRunning(Error),
}

pub(crate) fn control(consumer: &Client) -> MutexGuard<'_, ()> {
    consumer.context().control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pauses the partition.
pub(crate) fn pause(consumer: &Client, seat: &Seat) -> Result<()> {
    let _control = control(consumer);
    still_ours(seat)?;
    done(seat, "pause", consumer.pause(&one(&seat.id)))
}

/// Lets the partition flow, from where its queue goes on.
pub(crate) fn resume(consumer: &Client, seat: &Seat) -> Result<()> {
    let _control = control(consumer);
    still_ours(seat)?;
    done(seat, "resume", resume_now(consumer, seat))
}

/// The same for who has the control.
///
/// The client's thread for a broker sleeps for up to a second when all partitions of that broker are
/// paused, and a resume does not wake it. A seek does; where the partition stands anyway, it changes
/// nothing else: nothing that was read before a pause is kept over it.
pub(crate) fn resume_now(consumer: &Client, seat: &Seat) -> KafkaResult<()> {
    consumer.resume(&one(&seat.id))?;
    let Some(next) = seat.queue.next() else { return Ok(()) };
    let list = standing_at(&seat.id, next)?;
    // Not waited for, and without an answer: at worst the partition flows a second later.
    consumer.seek_partitions(list, Duration::ZERO).map(drop)
}

/// A list with this partition at this position, whose leader epoch the client compares with the log's.
fn standing_at(id: &LaneId, at: Position) -> KafkaResult<TopicPartitionList> {
    let mut list = one(id);
    list.set_partition_offset(&id.topic, id.partition, Offset::Offset(at.offset))?;
    if let Some(epoch) = at.leader_epoch {
        ffi::set_leader_epoch(&mut list, &id.topic, id.partition, epoch);
    }
    Ok(list)
}

/// Pauses the partition, moves it, and leads it to where messages are taken from.
pub(crate) fn seek(consumer: &Consumer, seat: &Seat, at: Position) -> Result<Sought> {
    let _control = control(consumer);
    still_ours(seat)?;
    let id = &seat.id;
    let failed = |error| kafka_error(format!("{id}: seek to {}", at.offset), error);
    done(seat, "pause", consumer.pause(&one(id)))?;
    let list = standing_at(id, at).map_err(failed)?;
    let sought = consumer.seek_partitions(list, TIMEOUT).map_err(failed)?;
    for element in sought.elements() {
        match element.error() {
            Ok(()) => {}
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => {
                return Ok(Sought::NotRunning(failed(error)));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    // Its fetcher runs: what may have stopped it before is done.
    consumer.gather(&id.topic, id.partition);
    Ok(Sought::Yes)
}

/// Starts the partition's fetcher again. The client stops it for good when the offset it wants is
/// not in the log, and only an assignment starts it.
pub(crate) fn restart(consumer: &Client, seat: &Seat) -> Result<()> {
    let _control = control(consumer);
    still_ours(seat)?;
    let mut ours = one(&seat.id);
    let restarted = ours.set_all_offsets(Offset::Beginning).and_then(|()| {
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer
                .incremental_unassign(&ours)
                .and_then(|()| consumer.incremental_assign(&ours)),
            _ => consumer.assign(&everything(consumer)?),
        }
    });
    done(seat, "restart", restarted)?;
    done(seat, "pause", consumer.pause(&ours))
}

/// The whole assignment, each partition where its queue goes on. One whose lane is not started is
/// paused, and is sought by its lane.
fn everything(consumer: &Client) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for seat in consumer.context().keeper.seats() {
        let at = seat.queue.next();
        let at = at.map_or(Offset::Beginning, |at| Offset::Offset(at.offset));
        list.add_partition_offset(&seat.id.topic, seat.id.partition, at)?;
    }
    Ok(list)
}

fn still_ours(seat: &Seat) -> Result<()> {
    match seat.is_vacated() {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Fenced, format!("{}: revoked", seat.id))),
    }
}

fn done(seat: &Seat, what: &str, result: Result<(), KafkaError>) -> Result<()> {
    result.map_err(|error| kafka_error(format!("{}: {what}", seat.id), error))
}
