//! Compression beside the cold thread, which has to answer meanwhile.

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures_channel::oneshot;
use tokio::sync::Semaphore;

use super::files::complain;
use super::runtime::spawn;
use crate::compress::compress_in;
use crate::encoding::Coding;
use crate::limits::{COMPRESSION_QUEUE, COMPRESSORS};

/// Added to the nice value of a thread that compresses: packets go first.
const NICE: i32 = 10;

/// What a file is compressed to; nothing more comes if that has failed.
pub(super) type Compressed = oneshot::Receiver<Vec<(Coding, Bytes)>>;

/// Threads that compress, a few at a time. There is none while nothing is compressed.
pub(super) struct Compressors {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Compressors {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(COMPRESSION_QUEUE)),
            turns: Arc::new(Semaphore::new(COMPRESSORS)),
        }
    }

    /// Compresses the content of the file at `path`. `None`: too much waits for that already.
    pub(super) fn start(
        &self,
        path: &[u8],
        codings: Vec<Coding>,
        octets: Bytes,
    ) -> Option<Compressed> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (turns, path): (_, Box<[u8]>) = (Arc::clone(&self.turns), path.into());
        let (reply, compressed) = oneshot::channel();
        spawn(async move {
            // The semaphore is never closed.
            let turn = turns.acquire_owned().await;
            let work = move || {
                // setpriority(2): to Linux a thread is a process. It works as well without.
                let _ = rustix::process::setpriority_process(None, NICE);
                // Who has waited may be gone.
                let _ = reply.send(compress_in(&codings, &octets));
                drop((place, turn));
            };
            let thread = thread::Builder::new().name("tagwire-compress".to_owned());
            if let Err(error) = thread.spawn(work) {
                complain("compressed", &path, &error);
            }
        });
        Some(compressed)
    }
}

#[cfg(test)]
impl Compressors {
    /// Nothing that is started ends before the result is dropped.
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(COMPRESSORS).unwrap();
        Arc::clone(&self.turns).acquire_many_owned(all).await.unwrap()
    }
}
