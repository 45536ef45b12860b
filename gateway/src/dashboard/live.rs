//! Keeps a page live: sends the pieces that have changed since they were last sent, as server-sent events of
//! `{"<id>": "<element>"}`. Each page that is looked at is drawn once a period.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use shared::ids::Name;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};
use xxhash_rust::xxh3::xxh3_64;

use super::overview::{Filter, Overview};
use super::page::Part;
use super::site::{self, Stored};
use crate::access::{Asker, Pass, identify};
use crate::api::Shown;

/// Pages that are kept live at once. Further ones are told to come again, and reload themselves meanwhile.
pub(super) const VIEWERS_MAX: usize = 32;
/// Between two looks at what changed.
const PERIOD: Duration = Duration::from_secs(1);

/// What is looked at.
pub(super) enum Looked {
    /// All sites.
    Sites(Filter),
    /// One.
    Site(Name),
}

struct Viewer {
    shown: Shown,
    looked: Looked,
    asker: Asker,
    sent: BTreeMap<String, u64>,
    /// The lines as they stand on the page.
    order: Vec<String>,
    pace: Interval,
    _place: OwnedSemaphorePermit,
}

/// An endless answer, for as long as it is read by somebody who may.
pub(super) fn follow(shown: Shown, looked: Looked, asker: Asker, place: OwnedSemaphorePermit) -> impl IntoResponse {
    let mut pace = tokio::time::interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let viewer = Viewer { shown, looked, asker, sent: BTreeMap::new(), order: Vec::new(), pace, _place: place };
    let changes = stream::unfold(viewer, |mut viewer| async move {
        loop {
            // The first comes at once: the page may be older than this.
            viewer.pace.tick().await;
            if !viewer.may_look().await {
                return None;
            }
            let changed = viewer.changed().await;
            if !changed.is_empty() {
                return Some((Ok::<_, Infallible>(event(changed)), viewer));
            }
        }
    });
    Sse::new(changes).keep_alive(KeepAlive::default())
}

fn event(changed: Vec<Part>) -> Event {
    let parts: serde_json::Map<String, serde_json::Value> = changed
        .into_iter()
        .map(|part| (part.id, part.markup.into_string().into()))
        .collect();
    // As JSON it is one line, whatever is in it.
    Event::default().data(serde_json::Value::Object(parts).to_string())
}

impl Viewer {
    /// Whoever signed out, or is let in no more, is shown nothing more; so is everybody where that cannot be known now, and
    /// their browsers ask again.
    async fn may_look(&self) -> bool {
        let pass = identify(&self.shown.access, &self.asker, false).await;
        pass.is_ok_and(|pass| !matches!(pass, Pass::Stranger))
    }

    async fn changed(&mut self) -> Vec<Part> {
        let parts = match &self.looked {
            Looked::Sites(filter) => {
                let overview = {
                    let (picture, histories) = (self.shown.picture.borrow(), self.shown.histories.borrow());
                    Overview::draw(&picture, &histories, filter, link::clock::now())
                };
                return self.changed_lines(overview);
            }
            Looked::Site(name) => {
                let asked = name.clone();
                // Where the store is busy or cannot be read, the next look may do.
                let Ok(stored) = self.shown.ask(move |store| Stored::read(store, &asked)).await else {
                    return Vec::new();
                };
                let picture = self.shown.picture.borrow().sites.get(name).cloned().unwrap_or_default();
                let histories = self.shown.histories.borrow();
                site::parts(name, &picture, histories.get(name), &stored, link::clock::now())
            }
        };
        self.fresh(parts)
    }

    /// Lines one by one, or the table where other lines are on it, or in another order.
    fn changed_lines(&mut self, overview: Overview) -> Vec<Part> {
        let order: Vec<String> = overview.rows.iter().map(|row| row.id.clone()).collect();
        let table = (order != self.order).then(|| overview.table());
        let mut changed = self.fresh(vec![overview.summary]);
        let rows = self.fresh(overview.rows);
        match table {
            Some(table) => {
                self.order = order;
                self.sent.retain(|id, _| id == "summary" || self.order.contains(id));
                changed.push(table);
            }
            None => changed.extend(rows),
        }
        changed
    }

    /// Those that are not as they were sent.
    fn fresh(&mut self, parts: Vec<Part>) -> Vec<Part> {
        let is_fresh = |part: &Part| {
            let digest = xxh3_64(part.markup.0.as_bytes());
            self.sent.insert(part.id.clone(), digest) != Some(digest)
        };
        parts.into_iter().filter(is_fresh).collect()
    }
}
