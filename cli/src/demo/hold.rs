//! `--hold`: a site without faults for one's own clients. Owns the words that say where it is.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use super::site::Site;
use crate::failure::Failure;

/// Between two looks whether every process still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Says where the site is, and stays until interrupted or until a process of it ends.
pub(crate) async fn hold(site: &mut Site) -> Result<Infallible, Failure> {
    crate::say(&addresses(site))?;
    loop {
        site.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn addresses(site: &Site) -> String {
    let plan = site.plan();
    let mut text = format!("A site of {} boards and a gateway runs in {}\n\n", site.count(), site.path().display());
    for board in &plan.boards {
        let number = board.board.get();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  board {number:<2}  MQTT {}   status http://{}/status", board.mqtt, board.http);
    }
    let _ = writeln!(text, "  gateway   dashboard http://{}/", plan.gateway.http);
    let Some(first) = plan.boards.first() else { return text };
    let (host, port) = (first.mqtt.ip(), first.mqtt.port());
    let _ = write!(
        text,
        "
Any MQTT 3.1.1 or 5 client is a sensor, on any board, without TLS or password on this machine:
  mosquitto_pub -h {host} -p {port} -q 1 -t det/7 -m '{{\"ts\": 1, \"state\": \"on\"}}'
  mosquitto_pub -h {host} -p {port} -q 2 -V 5 -i radar-2 -t radar/2 -m 48.5 -D publish user-property seq 1
  mosquitto_pub -h {host} -p {port} -q 1 -t alarm/cabinet -m 'door open'
What arrived, and how the boards are:
  curl http://{}/api/sites/{}/records
  roadstead status --url http://{} --url http://{}

Ctrl-C ends it.
",
        plan.gateway.http, plan.site, first.http, plan.gateway.http
    );
    text
}
