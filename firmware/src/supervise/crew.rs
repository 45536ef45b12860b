//! Owns the processes of one life of the node, and the conversation with it: orders in, the newest report of each duty out.
//! The processes are seen to by tasks of their own, so that nothing here delays the end of a lease.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;

use shared::action::DutyOrder;
use shared::ids::Name;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Charge;
use super::channel::{LINE_BYTES_MAX, Order, Report};
use super::workload::Workload;

/// Reports that wait for the node. At the limit processes wait with what they report, and only with that.
const REPORTS_MAX: usize = 256;

/// The newest order of one duty, numbered.
type Orders = watch::Sender<Option<(u64, DutyOrder)>>;

/// The processes of one life.
#[derive(Debug)]
pub(super) struct Crew {
    socket: UnixDatagram,
    orders: BTreeMap<Name, Orders>,
    tasks: JoinSet<()>,
    reports: mpsc::Receiver<Report>,
    /// The newest report of each duty that the node has not been told yet.
    pending: BTreeMap<Name, Report>,
}

impl Crew {
    pub(super) fn start(charge: &Charge, socket: StdDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (incoming, reports) = mpsc::channel(REPORTS_MAX);
        let mut tasks = JoinSet::new();
        let mut orders = BTreeMap::new();
        for duty in &charge.processes {
            let (sender, newest) = watch::channel(None);
            orders.insert(duty.name.clone(), sender);
            tasks.spawn(Workload::new(duty.clone(), charge.place.clone()).run(newest, incoming.clone()));
        }
        Ok(Self { socket: UnixDatagram::from_std(socket)?, orders, tasks, reports, pending: BTreeMap::new() })
    }

    /// Passes orders and reports on, for as long as it is polled. May be dropped and called again.
    pub(super) async fn serve(&mut self) {
        let mut line = [0; LINE_BYTES_MAX];
        loop {
            let next = self.pending.first_key_value().map(|(_, report)| report.encode());
            tokio::select! {
                received = self.socket.recv(&mut line) => match received {
                    Ok(length) => self.order(&line[..length]),
                    // The node has closed its end: it is ending, and its exit will be seen.
                    Err(_) => std::future::pending().await,
                },
                Some(report) = self.reports.recv() => {
                    self.pending.insert(report.duty.clone(), report);
                }
                sent = send(&self.socket, next.as_deref()) => {
                    if sent.is_ok() {
                        self.pending.pop_first();
                    } else {
                        self.pending.clear();
                    }
                }
            }
        }
    }

    fn order(&self, line: &[u8]) {
        let Some(Order { duty, seq, order }) = Order::decode(line) else {
            tracing::error!(line = %String::from_utf8_lossy(line), "the node gave an order that is none");
            return;
        };
        match self.orders.get(&duty) {
            Some(orders) => {
                orders.send_replace(Some((seq, order)));
            }
            // The node's configuration is newer than the supervisor's.
            None => tracing::error!(%duty, "the node orders a duty that its supervisor does not know: start that anew"),
        }
    }

    /// Ends every process, and returns once they are gone.
    pub(super) async fn end(self) {
        let Self { orders, mut tasks, reports, .. } = self;
        drop((orders, reports));
        while tasks.join_next().await.is_some() {}
    }
}

async fn send(socket: &UnixDatagram, line: Option<&str>) -> io::Result<()> {
    match line {
        Some(line) => socket.send(line.as_bytes()).await.map(|_| ()),
        None => std::future::pending().await,
    }
}
