//! What `roadstead` says when nothing is asked of it: where to begin.

/// The text.
pub(crate) const TEXT: &str = "\
Roadstead keeps the boards of an intersection working, and their records safe, while boards, fibre and disks fail.

See it:
  roadstead demo                          a site on this machine; a board dies, the uplink is cut, nothing is lost

Make a site of your own:
  roadstead init site --boards 3          keys, certificates and a commented configuration for each machine
  roadstead gateway --config site/gateway/gateway.toml
  roadstead node --config site/board-1/board.toml        ... and board-2, board-3, each in its own terminal
  roadstead status --dir site             who leads, what is stored, what is waited for
  mosquitto_pub -p 7411 -q 1 -t det/1 -m on              any MQTT client is a sensor

Then:
  roadstead config check FILE...          says what is wrong with a configuration, and what to do about it
  roadstead help COMMAND                  explains a command, with examples
";
