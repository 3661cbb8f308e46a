//! How a lane finds out how it stands: with the database, whose row decides, and with the log.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::lane::{Held, LaneRow, Standing};
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stop::Stop;
use crate::pipeline::take::survey;
use crate::store::Store;

impl<S: Store> Lane<S> {
    /// Compares the lane with the database and with the log; what is found is decided by taking the
    /// lane again.
    pub(super) async fn look(&self, holding: &Holding) -> Option<Tenure> {
        let standing = match self.standing(holding).await {
            Ok((Standing::Held, _)) => None,
            Ok((standing, _)) => Some(standing),
            Err(end) => return Some(end),
        };
        match standing {
            Some(standing) => {
                // Whatever is missing beside it has the same reason.
                self.seat.take_went_back();
                Some(Tenure::Lost(standing))
            }
            None => self.look_at_log(holding).await,
        }
    }

    /// Compares the lane with the log.
    pub(super) async fn look_at_log(&self, holding: &Holding) -> Option<Tenure> {
        let row = &holding.row;
        let id = &row.id;
        if self.seat.take_went_back() {
            return Some(Tenure::Lost(Standing::WentBack));
        }
        if self.seat.take_doubt() {
            return Some(Tenure::Failed(Error::new(
                ErrorKind::Kafka,
                format!("{id}: a log of this group lost its tail, or is another one"),
            )));
        }
        // What was read before the log was asked must be within its end, and what is read after it
        // not before its beginning: events may come in between.
        let before = self.seat.queue.next().unwrap_or(row.position).offset.max(row.reach());
        let survey = match survey(&*self.source, id).await {
            Ok(survey) => survey,
            // What cannot be seen now is looked at until it can.
            Err(error) => return Some(Tenure::Failed(error)),
        };
        if self.seat.partitions().is_some() {
            match self.source.partitions(&id.topic).await {
                Ok(now) if self.seat.minds(now) => {
                    let message = format!("{id}: the topic has {now} partitions now");
                    return Some(Tenure::Failed(Error::new(ErrorKind::Kafka, message)));
                }
                Ok(_) => {}
                Err(error) => return Some(Tenure::Failed(error)),
            }
        }
        let after = self.seat.queue.next().unwrap_or(row.position).offset;
        let fits = row.identity.difference(&survey.identity).is_none()
            && before <= survey.high
            && after >= survey.low;
        // Taking the lane again looks at the log and either explains or goes on.
        (!fits).then(|| {
            Tenure::Failed(Error::new(ErrorKind::Kafka, format!("{id}: the log has changed")))
        })
    }

    /// Waits before an event is tried again, and looks when asked to: what it fails for may be that
    /// the database lost an event before it.
    pub(super) async fn rest(&self, pause: Duration, holding: &Holding) -> Option<Tenure> {
        let mut stop = self.stop.clone();
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = stop.asked(Stop::Finish) => return Some(Tenure::Left),
                // A slice leaves that to its lane.
                () = self.seat.asked_to_look(), if holding.slice.is_none() => {
                    if let Some(lost) = self.look(holding).await {
                        return Some(lost);
                    }
                }
                () = &mut over => return None,
            }
        }
    }

    /// Asks the database how the lane stands, until it answers.
    pub(super) async fn standing(&self, holding: &Holding) -> Result<(Standing, LaneRow), Tenure> {
        self.standing_of(holding.held()).await
    }

    pub(super) async fn standing_of(&self, held: Held) -> Result<(Standing, LaneRow), Tenure> {
        let mut held = held;
        let mut undivided = false;
        let mut backoff = Backoff::for_store();
        loop {
            match self.group.store.read(&held).await {
                // The lane may be there, and divided in another way: the database went back to
                // before it was divided in this one.
                Ok(None) if held.slice.take().is_some() => undivided = true,
                Ok(None) => return Err(Tenure::Lost(Standing::Gone)),
                Ok(Some(now)) => {
                    let standing = match held.standing(Some((now.token, now.revision))) {
                        Standing::Fenced => Standing::Fenced,
                        _ if undivided => Standing::WentBack,
                        standing => standing,
                    };
                    return Ok((standing, now));
                }
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "the lane's row cannot be read, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }
}
