//! The groups whose frames an interface passes up.
//!
//! A network card, and a macvlan, filters by destination: own address, broadcast, and the groups
//! that somebody on this host has asked for. IPv6 needs some: neighbours ask by groups.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::socket::set_membership;
use crate::nic::Interface;

/// Group memberships of one worker; they end with it and its worker.
#[derive(Debug)]
pub struct Groups {
    /// The receiving socket, which has them.
    socket: OwnedFd,
    index: i32,
    joined: Vec<[u8; 6]>,
}

impl Groups {
    pub(crate) fn new(socket: BorrowedFd<'_>, interface: &Interface) -> io::Result<Self> {
        let socket = socket.try_clone_to_owned()?;
        Ok(Self { socket, index: interface.index, joined: Vec::new() })
    }

    /// Joins and leaves so that these are the groups.
    ///
    /// # Errors
    /// The kernel refused one, most likely as the interface is gone; the others are as wanted.
    pub fn set(&mut self, wanted: &[[u8; 6]]) -> io::Result<()> {
        let mut result = Ok(());
        let mut change = |group, add| {
            let done = set_membership(self.socket.as_fd(), self.index, group, add);
            let ok = done.is_ok();
            result = std::mem::replace(&mut result, Ok(())).and(done);
            ok
        };
        let left: Vec<_> =
            self.joined.iter().filter(|group| !wanted.contains(group)).copied().collect();
        for group in left {
            change(group, false);
            self.joined.retain(|joined| *joined != group);
        }
        for group in wanted {
            if !self.joined.contains(group) && change(*group, true) {
                self.joined.push(*group);
            }
        }
        result
    }
}
