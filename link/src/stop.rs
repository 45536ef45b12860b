//! The signal to stop, as every task of a process hears it: given once, never taken back.

use std::sync::Arc;

use tokio::sync::watch;

/// Gives the signal. When the last clone is dropped, that counts as the signal too.
#[derive(Clone, Debug)]
pub struct Stopper {
    sender: Arc<watch::Sender<bool>>,
}

/// Hears the signal.
#[derive(Clone, Debug)]
pub struct Stop {
    receiver: watch::Receiver<bool>,
}

/// A signal that was not given yet.
pub fn signal() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper { sender: Arc::new(sender) }, Stop { receiver })
}

impl Stopper {
    /// Gives the signal. A second time changes nothing.
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }
}

impl Stop {
    /// Returns once the signal was given. May be dropped half-way and called again.
    pub async fn stopped(&mut self) {
        // An error means that the stopper is gone: then nobody can let us run on either.
        let _ = self.receiver.wait_for(|stop| *stop).await;
    }

    /// Whether the signal was given.
    pub fn is_stopped(&self) -> bool {
        *self.receiver.borrow() || self.receiver.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_it_also_late() {
        let (stopper, mut stop) = signal();
        let mut other = stop.clone();
        assert!(!stop.is_stopped());
        stopper.stop();
        stop.stopped().await;
        other.stopped().await;
        assert!(other.is_stopped());
        let (stopper, mut stop) = signal();
        drop(stopper);
        stop.stopped().await;
        assert!(stop.is_stopped());
    }
}
