//! How a lane is asked to end.

use tokio::sync::watch;

/// How urgently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Go on.
    No,
    /// Finish the transaction that is running and begin no other.
    Finish,
    /// Leave at once; the running transaction is dropped with its connection.
    Abandon,
}

/// The lane's end of the line.
#[derive(Debug, Clone)]
pub(crate) struct StopSignal(watch::Receiver<Stop>);

/// The other end.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<Stop>);

pub(crate) fn stop_signal() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(Stop::No);
    (Stopper(sender), StopSignal(receiver))
}

impl Stopper {
    /// Asks; asking for less than before changes nothing.
    pub(crate) fn stop(&self, how: Stop) {
        self.0.send_if_modified(|now| {
            let more = how > *now;
            *now = how.max(*now);
            more
        });
    }
}

impl StopSignal {
    pub(crate) fn now(&self) -> Stop {
        *self.0.borrow()
    }

    /// Waits until at least this is asked for. A lost other end asks for everything.
    pub(crate) async fn asked(&mut self, how: Stop) {
        let _ = self.0.wait_for(|now| *now >= how).await;
    }
}
