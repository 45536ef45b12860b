//! What this gateway and the others of its store tell each other of their loads: says how many sites are here, and passes on what the
//! others say. Decides nothing; that is `shared::hub`'s.

use std::time::Duration;

use link::logging::whole_story;
use link::stop::Stop;
use shared::hub::Load;
use tokio::sync::watch;

use crate::picture::Picture;
use crate::store::PostgresLoads;

/// Between two exchanges.
const EVERY: Duration = Duration::from_secs(2);
/// A gateway whose owner task has not come round for so long, or that cannot store, says nothing: the others shall not send it any site.
const BEAT_MAX: Duration = Duration::from_secs(5);
/// A gateway that stops waits for so long until the others can know.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// An exchange that takes longer is left behind: with several hosts and statements that are not answered it may take several times as
/// long until it has failed.
const TELL_MAX: Duration = Duration::from_secs(15);

/// Tells and listens until `stop`; what the others said goes to `heard`. Where there is no store to meet in, returns at once.
pub(crate) async fn exchange(
    loads: Option<PostgresLoads>,
    picture: watch::Receiver<Picture>,
    heard: watch::Sender<Vec<Load>>,
    mut stop: Stop,
) {
    let mut kept = loads;
    let mut was_well = true;
    while let Some(mut loads) = kept.take() {
        if stop.is_stopped() {
            leave(loads).await;
            return;
        }
        let (sites, another) = (picture_of(&picture), loads.another());
        let mut telling = tokio::task::spawn_blocking(move || {
            let told = sites.map(|sites| loads.tell(sites)).transpose();
            (loads, told)
        });
        let told = tokio::select! {
            told = tokio::time::timeout(TELL_MAX, &mut telling) => told,
            () = stop.stopped() => match tokio::time::timeout(LEAVE_MAX, &mut telling).await {
                Ok(told) => Ok(told),
                Err(_) => return,
            },
        };
        let (loads, told) = match told {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("the database answers nothing about the other gateways' loads: no site is sent to them");
                was_well = false;
                // One at a time is waited for: more would be more threads that hang.
                tokio::select! {
                    _ = telling => {}
                    () = stop.stopped() => return,
                }
                kept = Some(another);
                continue;
            }
        };
        match told {
            Ok(others) => {
                was_well = true;
                if let Some(others) = others {
                    heard.send_replace(others);
                }
            }
            Err(error) => {
                if was_well {
                    let why = whole_story(&error);
                    tracing::warn!(why, "the other gateways' loads are not known: no site is sent to them");
                }
                was_well = false;
            }
        }
        kept = Some(loads);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.stopped() => {}
        }
    }
}

/// How many sites have a session; `None` where the owner task hangs, or what those sites send cannot be stored. Without any, what is told
/// shows by itself whether the database takes it.
fn picture_of(picture: &watch::Receiver<Picture>) -> Option<u32> {
    let picture = picture.borrow();
    let connected = picture.sites.values().filter(|site| site.is_connected()).count();
    let is_ill = !picture.is_storing && connected > 0;
    if is_ill || link::clock::now().since(picture.beat) > BEAT_MAX {
        return None;
    }
    Some(u32::try_from(connected).unwrap_or(u32::MAX))
}

async fn leave(mut loads: PostgresLoads) {
    let leaving = tokio::task::spawn_blocking(move || loads.leave());
    if let Ok(Ok(Err(error))) = tokio::time::timeout(LEAVE_MAX, leaving).await {
        tracing::info!(why = whole_story(&error), "the other gateways notice by themselves that this one is gone");
    }
}
