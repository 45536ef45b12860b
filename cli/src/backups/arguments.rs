//! The command line of `roadstead backup` and `roadstead restore`. Owns words and bounds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::Output;

/// `roadstead backup`.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// What to do with them.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make a file with a new key for encrypted backups
    Key(BackupKeyNew),
    /// Copy a gateway's store, whether the gateway runs or not
    Take(BackupTake),
    /// Show which backups there are
    List(BackupList),
    /// Restore each backup on scratch space, and say whether it can be put back
    Verify(BackupVerify),
    /// Remove old backups, and what no backup needs
    Prune(BackupPrune),
    /// Write out what an encrypted backup has beside the store: configuration, certificates, accounts, audit log
    Unpack(BackupUnpack),
}

/// Which S3 service is meant by s3://, and who one is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "For s3:// places")]
pub struct Service {
    /// The service, such as https://s3.example:9000. Default: that of AWS.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The service's region. Default: AWS_REGION, else us-east-1.
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// A file as AWS's own, of mode 0600. Default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the machine is.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Who made the service's certificate, PEM. Default: whom the system trusts.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `roadstead backup key`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup key /etc/roadstead/backup.key

The file has mode 0600. Keep a copy where neither the gateway nor its backups are: WITHOUT IT NOTHING OF AN ENCRYPTED \
BACKUP COMES BACK, and nobody can help.")]
pub struct BackupKeyNew {
    /// Where the key goes. Must not exist.
    pub file: PathBuf,
}

/// `roadstead backup take`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup take --config gateway.toml --to /mnt/backups --key backup.key --keep 7
  roadstead backup take --config gateway.toml --to s3://region-1/backups --key backup.key
  roadstead backup take --config gateway.toml --to /mnt/plain --plain

The copy is of one moment, and is checked before it counts: its pages, and that its counts add up. The gateway goes on \
meanwhile; its log grows by what it stores until the copy is done.

With --key a backup is encrypted and written in pieces, each of them once: a second one writes what has changed. It has \
accounts, audit log, configuration and certificates too. None depends on another. A copy of the store lies on the disk of \
--scratch meanwhile, in a file without a name, which is gone afterwards, also after a kill.

With --plain a backup is a whole SQLite file, which whoever gets at the directory can read. Put either onto another machine's disk.")]
pub struct BackupTake {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where backups go: a directory, which is made where it does not exist, or s3://bucket/prefix.
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// Encrypt with the key in this file: `roadstead backup key` makes one.
    #[arg(long, value_name = "FILE", required_unless_present = "plain")]
    pub key: Option<PathBuf>,
    /// Do not encrypt, and write the whole store: to a directory alone.
    #[arg(long, conflicts_with = "key")]
    pub plain: bool,
    /// Remove the oldest afterwards, but for so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: Option<u16>,
    /// A directory on a disk with room for a copy of the store. Default: the gateway's data_dir.
    #[arg(long, value_name = "DIR", conflicts_with = "plain")]
    pub scratch: Option<PathBuf>,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}

/// `roadstead backup list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup list /mnt/backups --key backup.key
  roadstead backup list /mnt/plain -o json | jq '.[-1].manifest.records'")]
pub struct BackupList {
    /// Where backups are: a directory, or s3://bucket/prefix.
    pub place: String,
    /// The key of encrypted ones.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How they are shown.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}

/// `roadstead backup verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup verify /mnt/backups --key backup.key
  roadstead backup verify s3://region-1/backups --key backup.key --newest

All of a backup is fetched and opened, the store is put together on scratch space, and its pages and counts are checked. Exits \
with 1 if one cannot be put back.")]
pub struct BackupVerify {
    /// Where backups are: a directory, or s3://bucket/prefix.
    pub place: String,
    /// The key of encrypted ones.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The newest alone.
    #[arg(long)]
    pub newest: bool,
    /// A directory on a disk with room for the store. Default: the system's for temporary files.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}

/// `roadstead backup prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup prune /mnt/backups --key backup.key --keep 30

With --key encrypted backups go, and then the pieces that none of the others needs; where one cannot be read, nothing goes. \
Without it plain ones go. Another backup that is being taken is waited for by nobody: try again later.")]
pub struct BackupPrune {
    /// Where backups are: a directory, or s3://bucket/prefix.
    pub place: String,
    /// The key of encrypted ones.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How many stay.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: u16,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}

/// `roadstead backup unpack`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead backup unpack s3://region-1/backups --key backup.key --into recovered
  roadstead backup unpack backups --key key --into recovered --to 2026-03-01T08:00:00Z

For a machine that burnt down: `recovered/files` has gateway.toml, certificates and keys; then `roadstead restore` with that \
configuration brings the store, the accounts and the audit log.")]
pub struct BackupUnpack {
    /// Where backups are: a directory, or s3://bucket/prefix.
    pub place: String,
    /// The key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where it goes: a directory that is empty or not there. For its owner alone.
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Take the newest one that was taken at this time or before: RFC 3339, UTC. Default: the newest.
    #[arg(long, value_name = "TIME", value_parser = super::check_time)]
    pub to: Option<String>,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}

/// `roadstead restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead restore --config gateway.toml --from s3://region-1/backups --key backup.key
  roadstead restore --config gateway.toml --from backups --key key --to 2026-03-01T08:00:00Z
  roadstead restore --config gateway.toml --from /mnt/plain

Stop the gateway first. The backup is read and checked before anything is changed; the store that was there is kept beside it, \
under a name that is told. Accounts and audit log come back where there are none: those that are there are newer, and stay. \
When the gateway runs again its sites are asked what they hold, and send what the backup lacks. What \
a board has given back since, because the region had it, does not come: the site's counts show it as holes.")]
pub struct Restore {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where backups are: a directory, or s3://bucket/prefix.
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    /// The key of encrypted ones.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Put the newest one back that was taken at this time or before: RFC 3339, UTC. Default: the newest.
    #[arg(long, value_name = "TIME", value_parser = super::check_time)]
    pub to: Option<String>,
    /// Where s3:// is.
    #[command(flatten)]
    pub service: Service,
}
