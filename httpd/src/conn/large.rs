//! A large file sent piece by piece, as there is memory for it and as its peer takes it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tagwire_core::counters::add;

use super::{End, Parts, Session, slice};
use crate::cache::{Answer, File};
use crate::content::{Content, Download};
use crate::limits::{GIVE_WAY_AFTER, LEAST_PIECE};
use crate::transport::{Transport, TransportError};

impl Parts {
    /// What is to be waited for before the first part is at hand.
    pub(super) fn first_download(&self, content: &Rc<Content>) -> Option<Download> {
        let Answer::File(File { body: None, .. }) = &self.entry.answer else { return None };
        let (_, first) = self.list.first()?;
        if self.download.as_ref().is_some_and(|download| download.is_of(&self.entry)) {
            return None;
        }
        let (site, entry) = (Arc::clone(&self.site), Arc::clone(&self.entry));
        let mut download = Download::new(Rc::clone(content), site, entry, self.list.len() > 1)?;
        download.begin(first.clone());
        Some(download)
    }
}

/// Sends parts of a file, a bounded piece at a time; adds to `octets` what is queued.
pub(super) async fn stream<T: Transport>(
    session: &mut Session<T>,
    parts: Parts,
    octets: &mut u64,
) -> Result<(), End> {
    let Parts { entry, mut download, list, end, .. } = parts;
    let Answer::File(file) = &entry.answer else { return Err(End::Abort) };
    for (lead, part) in list {
        if !lead.is_empty() {
            queue(session, lead, octets)?;
        }
        match (&file.body, &mut download) {
            (Some(body), _) => queue(session, slice(body, &part), octets)?,
            (None, Some(download)) => {
                download.begin(part);
                send_part(session, download, octets).await?;
            }
            (None, None) => return Err(End::Abort),
        }
    }
    if !end.is_empty() {
        queue(session, end, octets)?;
    }
    match &download {
        // The last of it is held for the peer as all before was, however little it is.
        Some(download) => drain_download(session, download, 0).await,
        None => Ok(()),
    }
}

fn queue<T: Transport>(session: &mut Session<T>, data: Bytes, octets: &mut u64) -> Result<(), End> {
    let len = data.len() as u64;
    session.transport.send(data).map(|()| *octets += len).map_err(|_| End::Abort)
}

/// Sends what is left of a part of a large file. One that changes under way ends in a connection cut
/// short, never in a mixture.
async fn send_part<T: Transport>(
    session: &mut Session<T>,
    download: &mut Download,
    octets: &mut u64,
) -> Result<(), End> {
    while !download.is_over() {
        make_room(session, download).await?;
        let piece = download.next().await.map_err(|_| End::Abort)?;
        queue(session, piece, octets)?;
        let low_water = download.low_water(session.transport.queued());
        drain_download(session, download, low_water).await?;
    }
    Ok(())
}

/// Has room for the next piece of a large file. Who finds none gives back first what it holds.
pub(super) async fn make_room<T: Transport>(
    session: &mut Session<T>,
    download: &mut Download,
) -> Result<(), End> {
    if !download.reserve() {
        drain_download(session, download, 0).await?;
        download.wait_for_room().await;
    }
    Ok(())
}

/// Waits until the queue is short, as long as the peer takes as much of it as it must: more while
/// others wait for the memory that the download holds.
async fn drain_download<T: Transport>(
    session: &mut Session<T>,
    download: &Download,
    low_water: usize,
) -> Result<(), End> {
    let Session { transport, content, .. } = session;
    // Of the time in which it must take what it always must.
    let (mut begun, mut passed) = (transport.queued(), Duration::ZERO);
    loop {
        let before = transport.queued();
        if before <= low_water {
            return Ok(());
        }
        let limits = content.limits();
        let time = limits.send_timeout.saturating_sub(passed).min(GIVE_WAY_AFTER);
        transport.set_deadline(Some(time));
        match transport.drained(low_water).await {
            Ok(()) => return Ok(()),
            Err(TransportError::TimedOut) => {
                passed += time;
                let left = transport.queued();
                if passed >= limits.send_timeout {
                    if begun.saturating_sub(left) < limits.least_progress() {
                        add(&content.tally.slow_reader, 1);
                        return Err(End::Abort);
                    }
                    (begun, passed) = (left, Duration::ZERO);
                }
                // The rest of the other time is too short to judge by.
                let judged = time == GIVE_WAY_AFTER && download.shall_give_way();
                if judged && before.saturating_sub(left) < LEAST_PIECE {
                    add(&content.tally.gave_way, 1);
                    return Err(End::Abort);
                }
            }
            Err(_) => return Err(End::Abort),
        }
    }
}
