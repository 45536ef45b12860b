//! Every bound of the system, by name, with where the number came from. Relations between limits are asserted
//! below at compile time. At a limit something is refused, waits, or is counted: the comment says which.

use core::time::Duration;

/// Boards in a site (design: 2 to 64). More are refused by the configuration.
pub const BOARDS_MAX: usize = 64;
/// Boards that vote for the leader: 7 ride out three dead ones. More are refused by the configuration.
pub const VOTERS_MAX: usize = 7;
/// User duties of a site: one word of eligibility in a heartbeat. More are refused by the configuration.
pub const DUTIES_MAX: usize = 32;
/// Bytes of the words in which a site tells the region why a duty is where it is, and what it waits for: the longest are some 55.
/// Longer ones are cut by the site, and a message with longer ones is refused by the region.
pub const DUTY_WORDS_BYTES_MAX: usize = 96;
/// Boards that keep each record. More are refused by the configuration.
pub const COPIES_MAX: usize = 5;
/// Bytes of a site's or board's name. Longer ones are refused by the configuration.
pub const NAME_BYTES_MAX: usize = 32;
/// Bytes of a configuration file. A longer one is refused unread: the fullest one is a few kilobytes.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a publisher's name (an MQTT client identifier, or its own choice). Longer ones are refused.
pub const PUBLISHER_BYTES_MAX: usize = 128;
/// Bytes of a record's topic. Longer ones are refused.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// Bytes of a record's payload. Larger publishes are refused with "packet too large".
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a record as encoded: topic, publisher and payload with their lengths, key and times.
pub const RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + TOPIC_BYTES_MAX + PUBLISHER_BYTES_MAX + 128;

/// Records in one run (what one origin commits at once) and in one block.
pub const RUN_RECORDS_MAX: u32 = 2048;
/// Bytes of a run's records. A run is closed when the next record would pass it.
pub const RUN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one journal write. Group commit takes what has gathered, up to this.
pub const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// The journal's page: commit blocks start on it, so that no page with acknowledged data is rewritten.
pub const PAGE_BYTES: usize = 4096;
/// Bytes at the end of a segment that its footer has: some 500 streams. A segment with more to say has none, and is scanned
/// at a start.
pub const FOOTER_BYTES: u32 = 16 * 1024;
/// Bytes of a journal segment file by default.
pub const SEGMENT_BYTES: u32 = 8 * 1024 * 1024;
/// Segments a journal may have by default: 256 x 8 MiB = 2 GiB. Before the limit the oldest records of the lowest class are
/// shed; at the limit the front door stops accepting.
pub const SEGMENTS_MAX: u32 = 256;
/// Fewest segments a journal may have: its own two, one for alarms, and some to write to and to free. Fewer are refused by
/// the configuration.
pub const SEGMENTS_LEAST: u32 = 8;
/// Segments kept for the journal itself: one into which records are written again to free another, and one that a start finds
/// where a crash came meanwhile. Nothing else begins them.
pub const OWN_SEGMENTS: usize = 2;
/// Bytes of records of one class that are written without waiting for more: eight pages, beyond which a page's padding is
/// small change.
pub const LINGER_BYTES_MAX: usize = 32 * 1024;
/// Distinct streams a journal may hold: 64 boards x 3 classes x some epochs. At the limit runs of new streams are refused.
pub const STREAMS_MAX: usize = 1024;

/// Names of a directory that an inspection looks at: more than a journal has segments (65,536). Further ones are unseen.
pub const INSPECTED_NAMES_MAX: usize = 128 * 1024;
/// Places that an inspection lists as damaged, or as torn. Further ones are counted.
pub const INSPECTED_FINDINGS_MAX: usize = 1024;
/// Damaged places whose records an inspection looks for. Of further ones it says that it cannot tell.
pub const INSPECTED_HOLES_MAX: usize = 64;
/// Disjoint ranges of one stream that an inspection keeps. Beyond them the highest are forgotten: it counts too few.
pub const INSPECTED_SPANS_MAX: usize = 64 * 1024;

/// Generations of keys in a journal's file of keys: one a month for 20 years. More are refused.
pub const KEY_GENERATIONS_MAX: usize = 256;

/// Bytes of accepted records that wait for their commit. At the limit the front door stops reading sockets.
pub const UNCOMMITTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records that wait for their commit. At the limit the front door stops reading sockets.
pub const UNCOMMITTED_RECORDS_MAX: usize = 64 * 1024;
/// Bytes of copies from peers that wait for the disk. At the limit further copies are dropped and counted; the
/// origin sends them again.
pub const COPY_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of runs for missing copies that wait for the disk. At the limit further ones are refused, counted; whoever sent
/// them sends them again.
pub const REPAIR_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of such runs that one commit block takes beside what publishers wait for, or else one run: at the 20 MB/s that a
/// slow eMMC writes, a commit waits some 7 ms longer for them.
pub const REPAIR_SHARE_BYTES: usize = 128 * 1024;
/// Bytes that are read at once to verify the journal, or else one whole block: a commit that comes meanwhile waits some
/// 2 ms for a slow eMMC.
pub const SCRUB_READ_BYTES: u32 = 128 * 1024;
/// Damaged places remembered of one segment. Past it a place is told of again whenever it is met.
pub const DAMAGED_PLACES_MAX: usize = 64;
/// Ranges that one question for missing records names. More are asked for afterwards.
pub const FETCH_RANGES_MAX: usize = 64;
/// Bytes of runs in answer to one such question, or else one run. What is left is asked for again.
pub const FETCH_BYTES_MAX: usize = 1024 * 1024;
/// Streams named in one part of an inventory. More make another part.
pub const INVENTORY_STREAMS_MAX: usize = 64;
/// Missing ranges that the status page lists. More are counted only.
pub const HOLES_LISTED_MAX: usize = 16;

/// Bytes of a payload that are searched for the sensor's own time or number. Members behind it are not seen. Regions file rows by what is
/// seen (`identity::own_number`), so it is the same in every version.
pub const CONTENT_SCAN_BYTES_MAX: usize = 4096;
/// MQTT connections of one board by default (redundant detectors of a corridor plus a margin). Further ones are refused.
pub const DOOR_CONNECTIONS_MAX: usize = 4096;
/// MQTT connections that a board's configuration may allow. More are refused by it.
pub const DOOR_CONNECTIONS_CEILING: u32 = 65_536;
/// MQTT sessions of one board, connected or kept. At the limit the one that would end soonest ends, counted.
pub const DOOR_SESSIONS_MAX: usize = 2 * DOOR_CONNECTIONS_MAX;
/// Users that may publish on one board. Each CONNECT is compared with all of them. More are refused by the start.
pub const DOOR_USERS_MAX: usize = 1024;
/// Bytes of an MQTT user name in a board's files. Longer ones are refused by the start.
pub const MQTT_USER_BYTES_MAX: usize = 256;
/// Bytes of an MQTT password in a board's files: tokens of cloud brokers have some 2 KiB. Longer ones are refused.
pub const MQTT_PASSWORD_BYTES_MAX: usize = 4096;
/// Bytes of a file with passwords. A longer one is refused unread.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// Publishes of one connection that wait for their acknowledgement: announced as Receive Maximum (two per record of a
/// pipeline 1024 deep). Past it MQTT 5 clients are disconnected (0x93), and older ones are not read.
pub const DOOR_IN_FLIGHT_MAX: usize = 2048;
/// Bytes of one MQTT packet: a record and 4 KiB of properties. Announced; larger ones are refused unread (0x95).
pub const DOOR_PACKET_BYTES_MAX: usize = RECORD_BYTES_MAX + 4096;
/// Topic aliases of one connection. Announced; others are refused (0x94).
pub const DOOR_TOPIC_ALIASES_MAX: u16 = 16;
/// Bytes read from one socket at once, and bytes of one connection that wait for the node. Past it it is not read.
pub const DOOR_READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes that all connections together hold in buffers. At the limit no connection reads ahead, and one that sends a
/// packet in parts is closed, counted.
pub const DOOR_HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of acknowledgements that wait for one socket. Past it the connection is not read.
pub const DOOR_UNSENT_BYTES_MAX: usize = 16 * 1024;
/// Batches of publishes that wait for the node, each at most a read and a packet. At the limit sockets are not read.
pub const OFFER_BATCHES_MAX: usize = 64;
/// Peer addresses remembered as already complained about. At the limit the log is silent, counters are not.
pub const DOOR_PEERS_LOGGED_MAX: usize = 256;
/// Publishes of one bridge that wait for their commit.
pub const BRIDGE_IN_FLIGHT_MAX: u16 = 1024;

/// Disjoint ranges kept of one stream. Ranges beyond it are forgotten highest first, which only repeats work.
pub const RANGES_MAX: usize = 256;
/// Streams named in one message of coverage.
pub const COVERAGE_STREAMS_MAX: usize = 256;

/// Bytes of one frame between boards or to the region, header included. Larger ones are refused unread.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one control datagram: below the smallest QUIC datagram (1200) less its overhead.
pub const DATAGRAM_BYTES_MAX: usize = 1024;
/// Lines that a board keeps of what happened on its control path. At the limit the oldest goes.
pub const CHRONICLE_LINES_MAX: usize = 64;
/// Messages of one control datagram. More begin another.
pub const CONTROL_BATCH_MAX: usize = 64;
/// Observers in one message about whom boards hear: 40 lines of at most 24 bytes fit a datagram. More begin another.
pub const HEARING_LINES_MAX: usize = 32;
/// Frames that may wait for one peer's connection. At the limit the connection is dropped and counted.
pub const PEER_QUEUE_MAX: usize = 4096;

/// Bytes of a block's records before compression. Bounds what decompression may allocate.
pub const BLOCK_RAW_BYTES_MAX: usize = RUN_BYTES_MAX + RECORD_BYTES_MAX;
/// Bytes of a block's body as sent.
pub const BLOCK_BODY_BYTES_MAX: usize = BLOCK_RAW_BYTES_MAX + BLOCK_RAW_BYTES_MAX / 64 + 64;
/// Numbers and words of one record that have columns of their own: a radar's frame of a hundred vehicles. A payload with more is
/// packed as text.
pub const COLUMN_SLOTS_MAX: usize = 512;
/// Columns of one block: bounds what packing and unpacking keep beside the records, some 3 MiB. A payload that would need
/// more is packed as text.
pub const COLUMNS_MAX: usize = 32 * 1024;
/// Bytes of a payload that is taken apart into numbers and words. A longer one is packed as text.
pub const COLUMN_PAYLOAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a payload that is no text and whose bytes have columns of their own. A longer one is packed as text.
pub const COLUMN_BINARY_BYTES_MAX: usize = 512;
/// Bytes of a word that has a place in the list of a block. A longer one is part of the text around it.
pub const COLUMN_WORD_BYTES_MAX: usize = 32;
/// Words in the list of a block: classes, states, names of phases. A payload that would need more is packed as text.
pub const COLUMN_WORDS_MAX: usize = 1024;

/// Bytes of blocks that one board may have on their way to the region without an acknowledgement.
pub const UPLINK_WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Blocks that one board may have on their way to the region without an acknowledgement.
pub const UPLINK_WINDOW_BLOCKS: usize = 256;
/// Bytes read from the journal at once for the uplink: at least one whole commit block.
pub const READ_BYTES: u32 = 1024 * 1024 + 64 * 1024;

/// Blocks stored in one transaction of the region.
pub const TRANSACTION_BLOCKS_MAX: usize = 256;
/// Sessions that one gateway serves at once: two for each of as many sites as it may have, and room for those that have fallen and are not
/// timed out yet. At the limit further ones are refused.
pub const SESSIONS_MAX: usize = 3 * 4096;

/// Bytes of packed blocks in one transaction of the region: bounds how long the others wait for theirs.
pub const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same of one site, unpacked, but for the first block: what an alarm that has just come waits for of its own site, some 7,000
/// records of 600 bytes, a thirtieth of a second of a store of 200,000 a second.
pub const TRANSACTION_RAW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions that one site may have at once: the one that carries everything, the one for alarms, a look at a better path, and those
/// that have fallen without a word and are not timed out yet. At the limit the oldest is closed.
pub const SITE_SESSIONS_MAX: usize = 6;
/// Blocks of one session that wait for their transaction. At the limit the gateway stops reading the session.
pub const SESSION_BLOCKS_MAX: usize = 1024;
/// Bytes of blocks of one session that wait for their transaction. At the limit the gateway stops reading it.
pub const SESSION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Questions of one session that wait for their answer. At the limit the gateway stops reading the session.
pub const SESSION_ASKS_MAX: usize = 64;
/// Questions of all sessions on their way to the store, those of sessions that have ended included. At the limit a
/// session that asks is refused.
pub const ASKS_MAX: usize = 16 * 1024;
/// Messages of one session that may already be on their way when the gateway stops reading it. Past it the session
/// is refused.
pub const SESSION_SLACK: usize = 64;
/// A session that has not said hello after so long is closed: a slow handshake over a 4G link stays well below it.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Disjoint ranges that the region keeps of one stream. Blocks that would leave more holes are refused: an honest
/// site leaves as many holes as it has blocks on their way, a few hundred.
pub const COVERAGE_RANGES_MAX: usize = 16 * 1024;

/// Actions that one input may cause. Past it the node has a bug.
pub const OUTBOX_MAX: usize = 16 * 1024;

/// Terms reserved on disk ahead, so that a takeover never waits for flash (notes: PaxosLease, Chubby's sequencers).
pub const TERMS_RESERVED: u64 = 1024;
/// How wrong the rate of a board's clock may be, in permille: CLOCK_MONOTONIC_RAW runs on an unsteered crystal, wrong
/// by 0.1 permille at worst; the rest is margin for crystals in heat and frost.
pub const DRIFT_PERMILLE: u64 = 10;
/// Longest lease a voter grants: bounds how long a restarted voter abstains.
pub const LEASE_MAX: Duration = Duration::from_secs(5);
/// A holder stops acting so long before its lease ends: an effect begun just before has that long to be over.
pub const LEASE_GUARD: Duration = Duration::from_millis(10);
/// Requests of one term whose answers still count: the newest. A late answer to an older one extends nothing.
pub const LEASE_REQUESTS_MAX: usize = 32;
/// Term counters heard above this are not believed: at one term a millisecond a site gets there in 34 years.
pub const TERM_COUNTER_MAX: u64 = 1 << 40;
/// A voter that has met no leader waits so long after its start for all other voters before it wants to lead: so that a new
/// site's first leader is elected by all that are there. Boards that start together hear each other after some 0.2 s.
pub const FOUNDING_WAIT: Duration = Duration::from_secs(1);
/// Between the starts of candidates of neighbouring rank, where voters answer fast: the first has won or lost before the
/// second begins. Where they answer slowly, twice their round trip.
pub const CAMPAIGN_STAGGER: Duration = Duration::from_millis(10);
/// Random part of a candidate's pause: enough to break a tie of two boards on a LAN. Doubled by each lost campaign.
pub const CAMPAIGN_JITTER: Duration = Duration::from_millis(1);
/// Times that lost campaigns double the random pause: to 128 ms, above the round trip of a bad link.
pub const CAMPAIGN_DOUBLINGS_MAX: u32 = 7;
/// Requests of one campaign before it counts as lost: at 30 % loss each way all four fail to one voter once in
/// fifteen times.
pub const CAMPAIGN_SENDS: u32 = 4;
/// Round trip to a voter that has not answered yet.
pub const ROUND_TRIP_GUESS: Duration = Duration::from_millis(5);
/// No voter is taken to be further away: an answer that took longer waited for a process that stood still, and a candidate
/// that believed it would wait for as long again between two requests.
pub const ROUND_TRIP_MOST: Duration = Duration::from_millis(400);
/// Shortest pause between two renewals, where they are denser because some are lost.
pub const RENEW_LEAST: Duration = Duration::from_millis(10);
/// Renewals that the boards alone must have carried before a witness's grant is waived, and times that it is told so.
pub const WAIVE_AFTER: u32 = 3;
/// Another board must reach the region while the leader does not for so long before the leader gives way.
pub const GIVE_WAY_UPLINK: Duration = Duration::from_secs(3);
/// Another board must be healthier or preferred for so long before the leader gives way.
pub const GIVE_WAY_RANK: Duration = Duration::from_secs(30);
/// Between two soundings of a witness by a board of a new site, which waits for it: some writings of its disk.
pub const WITNESS_FOUND_EVERY: Duration = Duration::from_millis(50);
/// Between two soundings of a witness by each board that votes: it puts on disk ahead what a takeover would wait for, and
/// its distance is known. A thousand pairs send 400 datagrams a second.
pub const WITNESS_SOUND_EVERY: Duration = Duration::from_secs(5);
/// Earlier lives of a board that are remembered: two machines that greet in turn need one.
pub const LIVES_KEPT: usize = 8;
/// Sites that one witness votes for: some 5 MiB. At the limit further ones get no answer, counted.
pub const WITNESS_SITES_MAX: usize = 16 * 1024;
/// Renewals between two reminders to a voter that has not remembered the newest decision who votes.
pub const REMIND_VOTERS: u32 = 20;

/// Longest lease of a duty under the leader's: bounds how long a new leader waits for boards that say nothing. At a
/// question every 50 ms and 30 % loss each way, all the answers of one second are lost once in half a million times.
pub const DUTY_LEASE_MAX: Duration = Duration::from_secs(1);
/// A board takes no lease under another's from its start on for so long: whoever knew its last life to be alive this
/// recently, and has seen that attested as over, knows that the next one holds nothing.
pub const DUTY_FRESH: Duration = Duration::from_millis(1500);
/// Between the questions of a board that neither holds nor is to hold an exclusive duty.
pub const DUTY_ASK_IDLE: Duration = Duration::from_millis(500);
/// A board that has not asked the leader for so long is given no duty, and its duties are taken from it.
pub const DUTY_SILENT: Duration = Duration::from_millis(1500);
/// Questions whose answers still count: the newest. A later answer to an older one gives nothing.
pub const DUTY_QUESTIONS_MAX: usize = 32;
/// A new leader leaves available duties as they are for so long, or until every living board has asked.
pub const DUTY_SETTLE: Duration = Duration::from_millis(600);
/// Boards that have heard of no leader for so long perform available duties of their own accord.
pub const DUTY_ALONE_AFTER: Duration = Duration::from_secs(2);
/// An exclusive duty leaves a board that has been impaired or unsteady for so long, where another is well.
pub const DUTY_UNFIT_AFTER: Duration = Duration::from_secs(5);
/// An exclusive duty leaves a board that has been overloaded for so long, where another has room.
pub const DUTY_LOADED_AFTER: Duration = Duration::from_secs(60);
/// A board this busy, in permille of its processors, is overloaded.
pub const DUTY_LOAD_HIGH: u16 = 900;
/// A board no busier than this, in permille of its processors, has room for what an overloaded one does.
pub const DUTY_LOAD_LOW: u16 = 500;

/// Boards up to which every board observes every other; beyond it each has about eight observers, so that the load of a
/// board stays the same (notes: membership, part 2.4).
pub const MESH_BOARDS_MAX: usize = 16;
/// Shuffled rings whose union is the observer graph: two neighbours a ring, eight observers a board.
pub const OBSERVER_RINGS: u64 = 4;
/// Observers whose silence counts as independent evidence at most: losses of ways through one switch go together.
pub const OBSERVERS_COUNTED_MAX: usize = 3;
/// A board may be taken for down by chance once in so long: ten years, so that a site of 64 stays far below one in 30
/// days even where losses are not quite independent.
pub const MISTAKE_EVERY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Shortest period of heartbeats: below it losses of neighbours are hardly independent (Bolot 1993).
pub const BEAT_PERIOD_LEAST: Duration = Duration::from_millis(10);
/// Longest period of heartbeats to an observer.
pub const BEAT_PERIOD_MOST: Duration = Duration::from_millis(250);
/// Period of heartbeats to boards that do not observe this one: they carry what it says of itself, and no verdict. A
/// leader's leave four times as often.
pub const BEAT_PERIOD_FAR: Duration = Duration::from_secs(2);
/// Bytes of one heartbeat on the wire, IP and QUIC included, rounded up: what the budget counts with.
pub const BEAT_BYTES: u64 = 100;
/// Bytes a second that a board spends on heartbeats to its observers at most, however lossy the ways are.
pub const BEAT_BYTES_SECOND: u64 = 40_000;
/// Longest silence that any measured loss or lateness excuses, with one observer; a part of it with more.
pub const SILENCE_MOST: Duration = Duration::from_secs(3);
/// Changes of mind of one instant gather for so long before they are told.
pub const HEARING_GATHER: Duration = Duration::from_millis(2);
/// News of whom boards hear goes along with heartbeats for so long: three periods, so that one lost datagram is no matter.
pub const HEARING_FRESH: Duration = Duration::from_millis(300);
/// A board that some observers miss counts as impaired, or no more, once that has lasted so long.
pub const IMPAIRED_AFTER: Duration = Duration::from_secs(1);
/// A wake-up of our own later than this says nothing about how late others are.
pub const LATE_WAKE: Duration = Duration::from_millis(5);
/// Least margin for lateness: timer and scheduling of an idle Linux board.
pub const LATENESS_LEAST: Duration = Duration::from_millis(3);
/// How long a board that came back is not fit to lead, the first time; doubles with each time.
pub const HOLD_DOWN_LEAST: Duration = Duration::from_secs(1);
/// The longest that it doubles to.
pub const HOLD_DOWN_MOST: Duration = Duration::from_secs(600);
/// What a board has come back for counts half after so long (RFC 2439's shape, LAN times).
pub const PENALTY_HALF_LIFE: Duration = Duration::from_secs(60);

const _: () = assert!(RECORD_BYTES_MAX < RUN_BYTES_MAX, "a record fits a run");
const _: () = assert!(
    MQTT_USER_BYTES_MAX + MQTT_PASSWORD_BYTES_MAX + PUBLISHER_BYTES_MAX + 4096 < DOOR_PACKET_BYTES_MAX,
    "a CONNECT fits a packet"
);
const _: () = assert!(DOOR_CONNECTIONS_MAX <= DOOR_CONNECTIONS_CEILING as usize, "the default is allowed");
const _: () = assert!(RUN_BYTES_MAX + RECORD_BYTES_MAX < COMMIT_BYTES_MAX, "a run fits a write");
const _: () = assert!(COMMIT_BYTES_MAX * 2 < SEGMENT_BYTES as usize, "a write fits a segment");
const _: () = assert!(
    (FOOTER_BYTES as usize).is_multiple_of(PAGE_BYTES) && FOOTER_BYTES < SEGMENT_BYTES / 16,
    "a footer is small"
);
const _: () = assert!(SEGMENTS_LEAST as usize >= OWN_SEGMENTS + 1 + 3, "a full journal has something to free");
const _: () = assert!(BLOCK_BODY_BYTES_MAX + 4096 < FRAME_BYTES_MAX, "a block fits a frame");
const _: () = assert!(COMMIT_BYTES_MAX + 4096 < FRAME_BYTES_MAX, "a run fits a frame");
const _: () = assert!(
    INVENTORY_STREAMS_MAX * (RANGES_MAX * 20 + 32) < FRAME_BYTES_MAX,
    "a part of an inventory fits a frame"
);
const _: () = assert!(REPAIR_SHARE_BYTES * 8 <= COMMIT_BYTES_MAX, "missing copies take an eighth of a write at most");
const _: () = assert!((SCRUB_READ_BYTES as usize).is_multiple_of(PAGE_BYTES), "a read is made of pages");
const _: () = assert!(READ_BYTES as usize > COMMIT_BYTES_MAX + 2 * PAGE_BYTES, "a read takes in a whole block");
const _: () = assert!(DRIFT_PERMILLE < 1000, "a slow clock still runs");
const _: () = assert!(TERM_COUNTER_MAX <= 1 << 40, "counter, board and revision fit a fencing token");
const _: () = assert!(BEAT_PERIOD_LEAST.as_millis() < BEAT_PERIOD_MOST.as_millis(), "periods have room");
const _: () = assert!(BEAT_PERIOD_FAR.as_millis() < 65_536, "periods fit their field");
const _: () = assert!(
    COLUMN_BINARY_BYTES_MAX <= COLUMN_SLOTS_MAX && COLUMN_SLOTS_MAX < COLUMNS_MAX,
    "a record's columns are some of its block's"
);
const _: () = assert!(BLOCK_RAW_BYTES_MAX < UPLINK_WINDOW_BYTES, "a block fits the window");
const _: () = assert!(BLOCK_BODY_BYTES_MAX < TRANSACTION_BYTES_MAX, "a block fits a transaction");
const _: () = assert!(
    COVERAGE_STREAMS_MAX * (RANGES_MAX * 20 + 32) < FRAME_BYTES_MAX,
    "an answer with every range of every stream asked fits a frame"
);
const _: () = assert!(
    DUTY_LEASE_MAX.as_millis() as u64 * (1000 + DRIFT_PERMILLE) / (1000 - DRIFT_PERMILLE)
        < DUTY_FRESH.as_millis() as u64,
    "what a life was granted is over before the next one is granted anything"
);
const _: () = assert!(DUTY_ASK_IDLE.as_millis() * 2 < DUTY_SILENT.as_millis(), "one lost question is no silence");
const _: () = assert!(DUTIES_MAX * 16 + 128 < DATAGRAM_BYTES_MAX, "a board's duties fit a datagram");
