//! The node's end of its conversation with the supervisor about duties: orders go out, the newest of each duty first and
//! only; reports come in, and one that an order has overtaken is dropped. Owns no process and decides nothing.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::Arc;

use shared::action::{DutyOrder, DutyReport};
use shared::config::DutyConfig;
use shared::ids::{DutyId, Name};
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, watch};

use crate::supervise::LIFE_VARIABLE;
use crate::supervise::channel::{LINE_BYTES_MAX, Order, Report};

/// Reports that wait for the node. At the limit the socket is not read, and the supervisor waits.
const REPORTS_MAX: usize = 256;

/// The newest order of each duty, numbered.
type Orders = BTreeMap<DutyId, (u64, DutyOrder)>;

/// Orders out, reports in.
#[derive(Debug)]
pub(crate) struct Workloads {
    orders: watch::Sender<Orders>,
    reports: mpsc::Receiver<(DutyId, u64, DutyReport)>,
    is_supervised: bool,
}

/// The life that the supervisor has drawn for this process, if one did.
pub(crate) fn life() -> Option<u64> {
    std::env::var(LIFE_VARIABLE).ok()?.parse().ok()
}

impl Workloads {
    /// Speaks with the supervisor where there is one: over the socket that it left as the standard input. Without one
    /// every duty has failed on this board.
    pub(crate) fn start(duties: &[DutyConfig]) -> Self {
        let socket = life().and_then(|_| inherited());
        Self::over(socket, duties)
    }

    fn over(socket: Option<UnixDatagram>, duties: &[DutyConfig]) -> Self {
        let (orders, newest) = watch::channel(Orders::new());
        let (incoming, reports) = mpsc::channel(REPORTS_MAX);
        let is_supervised = socket.is_some();
        if let Some(socket) = socket {
            let names: BTreeMap<DutyId, Name> = duties.iter().enumerate().filter_map(numbered).collect();
            let socket = Arc::new(socket);
            tokio::spawn(send(Arc::clone(&socket), names.clone(), newest));
            tokio::spawn(receive(socket, names, incoming));
        } else if !duties.is_empty() {
            tracing::warn!("nobody supervises this board: it performs none of the site's own duties");
        }
        Self { orders, reports, is_supervised }
    }

    /// Passes an order on. One that only extends the last keeps its number.
    pub(crate) fn order(&self, duty: DutyId, order: DutyOrder) {
        self.orders.send_modify(|orders| {
            let seq = match orders.get(&duty) {
                Some((seq, before)) if is_extension(before, &order) => *seq,
                Some((seq, _)) => seq + 1,
                None => 1,
            };
            orders.insert(duty, (seq, order));
        });
    }

    /// The next report that no order has overtaken.
    pub(crate) async fn report(&mut self) -> (DutyId, DutyReport) {
        loop {
            let Some((duty, seq, report)) = self.reports.recv().await else {
                // Nobody supervises: nothing will ever be reported.
                return std::future::pending().await;
            };
            if self.orders.borrow().get(&duty).is_some_and(|(newest, _)| *newest == seq) {
                return (duty, report);
            }
        }
    }

    /// Whether processes can be had here at all.
    pub(crate) const fn is_supervised(&self) -> bool {
        self.is_supervised
    }
}

fn numbered((place, duty): (usize, &DutyConfig)) -> Option<(DutyId, Name)> {
    Some((u8::try_from(place).ok().and_then(DutyId::new)?, duty.name.clone()))
}

fn is_extension(before: &DutyOrder, after: &DutyOrder) -> bool {
    match (before, after) {
        (DutyOrder::Act { token, .. }, DutyOrder::Act { token: next, .. }) => token == next,
        (before, after) => before == after,
    }
}

/// The supervisor's socket, in place of the standard input.
fn inherited() -> Option<UnixDatagram> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let socket = StdDatagram::from(descriptor);
    socket.peer_addr().ok()?;
    socket.set_nonblocking(true).ok()?;
    UnixDatagram::from_std(socket).ok()
}

/// Sends what is new, the newest of each duty.
async fn send(socket: Arc<UnixDatagram>, names: BTreeMap<DutyId, Name>, mut newest: watch::Receiver<Orders>) {
    let mut sent = Orders::new();
    while newest.changed().await.is_ok() {
        let orders = newest.borrow_and_update().clone();
        for (duty, order) in orders {
            let Some(name) = names.get(&duty) else { continue };
            if sent.insert(duty, order) == Some(order) {
                continue;
            }
            let line = Order { duty: name.clone(), seq: order.0, order: order.1 }.encode();
            if let Err(error) = socket.send(line.as_bytes()).await {
                // The supervisor is gone, and this process is about to go with it.
                tracing::error!(%error, "the supervisor takes no orders");
                return;
            }
        }
    }
}

async fn receive(
    socket: Arc<UnixDatagram>,
    names: BTreeMap<DutyId, Name>,
    reports: mpsc::Sender<(DutyId, u64, DutyReport)>,
) {
    let mut line = [0; LINE_BYTES_MAX];
    while let Ok(length) = socket.recv(&mut line).await {
        let Some(report) = Report::decode(&line[..length]) else { continue };
        let duty = names.iter().find(|(_, name)| **name == report.duty);
        let Some((duty, _)) = duty else { continue };
        if reports.send((*duty, report.seq, report.report)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::DutyMode;
    use shared::ids::{BoardId, Fencing, Term};
    use shared::time::Instant;

    fn duty() -> DutyConfig {
        let name = "signal".try_into().unwrap();
        DutyConfig { name, mode: DutyMode::Exclusive, standby: true, is_local: true }
    }

    #[tokio::test]
    async fn a_report_that_an_order_has_overtaken_is_dropped() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut workloads = Workloads::over(Some(ours), &[duty()]);
        let id = DutyId::new(0).unwrap();
        let token = |revision| Fencing::new(Term::new(1, BoardId::new(1).unwrap()), revision);
        let mut line = [0; LINE_BYTES_MAX];
        let mut seqs = Vec::new();
        for order in [
            DutyOrder::StandBy,
            DutyOrder::Act { token: token(1), until: Instant::from_micros(1) },
            DutyOrder::Act { token: token(1), until: Instant::from_micros(2) },
        ] {
            workloads.order(id, order);
            let length = theirs.recv(&mut line).await.unwrap();
            seqs.push(Order::decode(&line[..length]).unwrap().seq);
        }
        assert_eq!(seqs, [1, 2, 2], "an extension is no new order");
        for (seq, report) in [(1, DutyReport::StandsBy), (2, DutyReport::Acts { token: token(1) })] {
            let report = Report { duty: "signal".try_into().unwrap(), seq, report };
            theirs.send(report.encode().as_bytes()).await.unwrap();
        }
        assert_eq!(workloads.report().await, (id, DutyReport::Acts { token: token(1) }));
    }
}
