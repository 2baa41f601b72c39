//! What one peer can make the server spend, each bound with its name and its reason: those that an
//! operator may change are [`Limits`], the rest are constants.

use std::time::Duration;

mod settable;

pub use settable::{HEADING, Limits};

/// Octets of a request body that are read and thrown away to keep the connection. Reading on
/// costs the peer and us; a bigger body costs the peer its connection (413).
pub const MAX_DISCARDED_BODY: u32 = 64 * 1024;

/// Octets of a chunked request body that are not its content: sizes, extensions, trailers. Much
/// more of them than of content is what only an attacker sends.
pub const MAX_CHUNK_OVERHEAD: u64 = 16 * 1024;

/// Ranges of a request. A list of more is ignored, and the whole file sent: players ask for one,
/// viewers of documents for a few at a time.
pub const MAX_RANGES: usize = 64;

/// Sites of a configuration: each has a directory open, and is looked at for each request.
pub const MAX_SITES: usize = 64;

/// Octets of unfinished heads that a worker keeps for all of its connections together, and for each
/// client as many as are left for the others; one that needs more is answered 503. A crowd of slow
/// senders would hold gigabytes otherwise, as long as [`Limits::head_timeout`].
pub const UNFINISHED_HEADS: usize = 64 * 1024 * 1024;

/// Connections above [`Limits::max_connections`] or [`Limits::max_per_address`] that a worker tells
/// so at a time, and to each client as many as are left for the others. More of them are reset.
pub const MAX_TURNED_AWAY: usize = 1024;

/// How long a discarded request body may take as a whole.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long and how much is read after the last answer, so that what the peer was still sending
/// does not turn into a reset that destroys the answer on its way (RFC 9112 9.6).
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`LINGER_TIMEOUT`]; in octets.
pub const LINGER_OCTETS: usize = 256 * 1024;

/// Octets of answers to pipelined requests that may be queued before the next request is looked
/// at: a client that sends and never reads holds this much and not more.
pub const PIPELINE_QUEUE: usize = 256 * 1024;

/// Octets of requests that a worker keeps for all of its connections together while their clients
/// take the answers to those before them, and for each client as many as are left for the others. A
/// connection that has more ends behind the answer that it has got, as one may at any time (RFC 9112 9.3.2): each may have sent a receive window full of them.
pub const PIPELINED_REQUESTS: usize = 64 * 1024 * 1024;

/// A large file's next chunk is queued when this much is still unacknowledged. A path of 100 Mbit/s
/// and 100 ms with a queue of as much again holds 2.5 MB, and while the first of that is lost and
/// sent again nothing is acknowledged for another round trip: with 2 MiB it stood idle then (two
/// holes of 90 ms in a download of 20 MB, measured). Linux's senders hold as much
/// (`net.ipv4.tcp_wmem`).
pub const STREAM_LOW_WATER: usize = 4 * 1024 * 1024;

/// Octets that answers from large files hold beside the cache unless told otherwise
/// (`--download-memory`): a dozen downloads at full speed, or a thousand with 64 KiB each.
pub const DOWNLOAD_MEMORY: usize = 64 * 1024 * 1024;

/// What that may be told to be at the least: a chunk for one, and pieces for others beside it.
pub const LEAST_DOWNLOAD_MEMORY: usize = 4 * 1024 * 1024;

/// Octets of a large file that are read and sent at once when memory is short. What nobody can do
/// without: whoever holds none of it waits for that much.
pub const LEAST_PIECE: usize = 16 * 1024;

/// While somebody waits for memory, a client must take a [`LEAST_PIECE`] of a large file within
/// this time, or gives way: it is reset. A few thousand connections that hardly read could keep
/// all others from downloading otherwise, each at [`Limits::min_rate`].
pub const GIVE_WAY_AFTER: Duration = Duration::from_secs(5);

/// How often an answer from a large file that is replaced before its first octets are read is
/// made from the new one, before the client is told to come again.
pub const FIRST_ATTEMPTS: usize = 3;

/// Head and body are copied into one buffer up to this many octets: they fit one segment at an
/// MTU of 1500 then, and one slot in the send queue costs less than two.
pub const MERGED_RESPONSE: usize = 1400;

/// Octets of a chunk of a large file. A file of at most one chunk is cached whole.
pub const CHUNK: usize = 1024 * 1024;

/// One of several ranges that asks for at most so many octets of a chunk has these read and no
/// more, where the chunk is not cached: a list of [`MAX_RANGES`] single octets would read 64 MiB
/// otherwise. So no list has more than 16 times read what it asks for.
pub const SMALL_RANGE: u64 = CHUNK as u64 / 16;

/// Chunks that are read ahead of the one that is sent at the most, to hide the disk's latency.
pub const READ_AHEAD: usize = 2;

/// A cached entry is compared with the file again when its last comparison is older.
pub const REVALIDATE_AFTER: Duration = Duration::from_millis(400);

/// How old a comparison may be at most. A request that comes later, after a rest, waits for the
/// next one; requests that come all the time are served while it is made. With the worker's own
/// clock tick and the load itself on top, what changes on disk takes effect within a second.
pub const STALE_AT_MOST: Duration = Duration::from_millis(900);

/// What is watched by inotify is compared with the file again when its last comparison is older:
/// for what no event tells of, writes through mmap(2), through another hard link or by another
/// mount that comes to lie upon a directory.
pub const WATCHED_REVALIDATE_AFTER: Duration = Duration::from_secs(60);

/// Where something changes all the time, a comparison counts for that long.
pub const CHANGE_INTERVAL: Duration = Duration::from_millis(100);

/// Directories that are watched: the kernel keeps about 1 KiB for each, and lets a user have 8,192
/// on small machines (`fs.inotify.max_user_watches`).
pub const MAX_WATCHES: usize = 16_384;

/// Directories whose ways are remembered, those included that cannot be watched.
pub const MAX_TRAILS: usize = 2 * MAX_WATCHES;

/// After that it is tried again to watch what could not be watched.
pub const REWATCH_AFTER: Duration = Duration::from_secs(60);

/// How long a request waits for a comparison with a disk that does not answer, before it gets what
/// is in the cache. Far more than a disk that works takes, and not yet a pause for people.
pub const COMPARISON_PATIENCE: Duration = Duration::from_millis(50);

/// A file that was changed less than that before it is read may change once more without showing
/// it: kernels take the times of files from a clock that ticks every 1 to 10 ms. Since Linux 6.13
/// some file systems give a change after a look at the old time one of its own; most machines and
/// file systems do not.
pub const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// The same where times are kept in whole seconds (ext4 with small inodes), or every other one (FAT).
pub const WHOLE_SECONDS_SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Answers other than files (404, 403) that are kept: a scan for random names must not grow us.
pub const MAX_REFUSALS: usize = 1024;
/// Refusals of longer paths (octets) are not kept at all.
pub const MAX_REFUSAL_PATH: usize = 256;

/// Names in a listing. A directory of more is not what anybody reads.
pub const MAX_LISTED: usize = 10_000;
/// Octets of all names in a listing, which may be written at several times their length.
pub const MAX_LISTED_OCTETS: usize = 1024 * 1024;
/// How old a listing may become while its directory stays the same: what it shows of files, sizes
/// and times, changes without that. It takes a look at each of them.
pub const LISTING_LIFETIME: Duration = Duration::from_secs(5);

/// Commands that wait for the cold side. When it is that far behind, requests that need it are
/// answered 503 instead of being piled up.
pub const COLD_QUEUE: usize = 4096;
/// Places in that queue which are not for paths: a scan for random names must not cut off the
/// downloads that wait for their next chunk.
pub const COLD_QUEUE_FOR_CHUNKS: usize = COLD_QUEUE / 4;
/// Places which are not for hints: what somebody waits for goes first.
pub const COLD_QUEUE_FOR_WAITERS: usize = COLD_QUEUE / 2;

/// Loads of paths that run at the same time: bounds what is read and not yet in the cache to this
/// many chunks, and is deep enough for a disk's queue.
pub const COLD_LOADS: usize = 32;

/// Reads of large files that run at the same time, beside those: as deep as disks' queues are, so
/// that a crowd of downloads leaves room in them for the files that others wait for.
pub const COLD_READS: usize = 16;

/// Files that are compressed at the same time: one that takes long does not hold up the others, and
/// most of the machine stays with who serves.
pub const COMPRESSORS: usize = 2;

/// Files that are compressed or wait for it. More stay as they are until they are looked at again,
/// so that a scan for texts that nobody reads holds up nothing else.
pub const COMPRESSION_QUEUE: usize = 16;

/// How long a file's first request waits for its compression before it gets the file as it is. A
/// MiB takes 20 to 60 ms for each coding, most files less than one.
pub const COMPRESSION_PATIENCE: Duration = Duration::from_millis(150);

/// Files kept open for the chunks that follow. Below the usual soft limit of 1,024 descriptors.
pub const OPEN_FILES: usize = 64;

/// How long a file stays open without being read: an unlinked one holds its space until then.
pub const OPEN_FILE_IDLE: Duration = Duration::from_secs(10);
