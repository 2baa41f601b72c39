//! The cable of the client's namespace, shared by all hosts of the suite: one packet socket that
//! hands each frame to the host whose MAC address it is for, and those for groups to all.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tagwire_core::lab::WireSocket;
use tagwire_lab::Lab;

use crate::packet::{Mac, Packet};

/// The client's end of the cable.
const CABLE: &str = "eth0";
/// Behind the addresses and the tag: where a frame's EtherType is.
const TAGGED_HEADER: usize = 18;

/// A frame from the lab's VLAN, its tag taken off.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) at: Instant,
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) packet: Packet,
}

pub(crate) struct Hub {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

struct Shared {
    socket: WireSocket,
    vlan: u16,
    /// Whether the namespace puts the tag on what its sockets send (the lab's BPF programs).
    tagged_for_us: bool,
    hosts: Mutex<HashMap<Mac, Sender<Frame>>>,
    ends: AtomicBool,
}

impl Hub {
    pub(crate) fn open(lab: &Lab) -> Self {
        let client = lab.client();
        let index = client.interface_index(CABLE).unwrap();
        let socket = client.run(|| WireSocket::open(index)).unwrap().unwrap();
        let shared = Arc::new(Shared {
            socket,
            vlan: lab.vlan().expect("the suite runs behind a VLAN"),
            tagged_for_us: lab.client_interface() == CABLE,
            hosts: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.read()
        });
        Self { shared, reader: Some(reader) }
    }

    /// Frames for this MAC address, from now on, in their order.
    pub(crate) fn plug(&self, mac: Mac) -> Receiver<Frame> {
        let (sender, receiver) = channel();
        let taken = self.shared.hosts().insert(mac, sender);
        assert!(taken.is_none(), "{mac:x?} is there already");
        receiver
    }

    pub(crate) fn unplug(&self, mac: Mac) {
        self.shared.hosts().remove(&mac);
    }

    pub(crate) fn send(&self, to: Mac, from: Mac, packet: &Packet) {
        let tags: &[u16] = if self.shared.tagged_for_us { &[] } else { &[self.shared.vlan] };
        let frame = crate::packet::frame(to, from, tags, packet);
        loop {
            match self.shared.socket.send(&frame) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("a frame of {} octets: {error}", frame.len()),
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn hosts(&self) -> MutexGuard<'_, HashMap<Mac, Sender<Frame>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        let mut buffer = vec![0; 70_000];
        while !self.ends.load(Ordering::Relaxed) {
            let Some(len) = self.socket.recv(&mut buffer).unwrap() else {
                let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
                let limit = Duration::from_millis(100).try_into().unwrap();
                let _ = poll(&mut fds, Some(&limit));
                continue;
            };
            if let Some(frame) = self.untagged(&buffer[..len]) {
                let hosts = self.hosts();
                if frame.to[0] & 1 != 0 {
                    hosts.values().for_each(|host| drop(host.send(frame.clone())));
                } else if let Some(host) = hosts.get(&frame.to) {
                    let _ = host.send(frame);
                }
            }
        }
    }

    /// What is inside the lab's VLAN; nothing else is heard.
    fn untagged(&self, frame: &[u8]) -> Option<Frame> {
        let tag = [0x81, 0x00, (self.vlan >> 8) as u8, self.vlan as u8];
        (frame.len() >= TAGGED_HEADER && frame[12..16] == tag).then(|| Frame {
            at: Instant::now(),
            to: frame[..6].try_into().unwrap(),
            from: frame[6..12].try_into().unwrap(),
            packet: Packet {
                ethertype: u16::from_be_bytes([frame[16], frame[17]]),
                octets: frame[TAGGED_HEADER..].to_vec(),
            },
        })
    }
}
