//! What is left of a worker's io_uring: the operations of its loop, with their flags. Files cannot be
//! opened by it, nor sockets made or connected, which no seccomp filter would see; and
//! nothing can be registered any more.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

/// What [`Uring`](crate::uring::Uring) submits.
const OPERATIONS: [u8; 5] = [
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::PollAdd::CODE,
    opcode::Timeout::CODE,
    opcode::TimeoutUpdate::CODE,
];

/// Restricts a ring that was made disabled, and enables it. From then on it takes submissions from
/// the calling thread alone.
///
/// # Errors
/// The kernel refuses it.
pub(crate) fn enable(ring: &IoUring) -> io::Result<()> {
    let flags = Flags::FIXED_FILE | Flags::SKIP_SUCCESS;
    let mut allowed: Vec<_> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    allowed.push(Restriction::sqe_flags_allowed(flags.bits()));
    ring.submitter().register_restrictions(&mut allowed)?;
    ring.submitter().register_enable_rings()
}

#[cfg(test)]
mod tests {
    use io_uring::squeue::Entry;
    use io_uring::types::{Fd, Timespec};

    use super::*;

    /// What comes of an entry.
    fn submit(ring: &mut IoUring, entry: &Entry) -> i32 {
        // SAFETY: what the entries of this test point to outlives this call, in which they are done.
        unsafe { ring.submission().push(entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    }

    #[test]
    fn all_but_the_loop_is_refused() {
        let built = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_r_disabled()
            .build(8);
        let mut ring = match built {
            Ok(ring) => ring,
            Err(error) => {
                eprintln!("SKIPPED (no io_uring here): {error}");
                return;
            }
        };
        enable(&ring).unwrap();
        let path = c"/etc/passwd".as_ptr();
        for entry in [
            opcode::Nop::new().build(),
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), path).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
            opcode::PollAdd::new(Fd(0), 0).build().flags(Flags::ASYNC),
        ] {
            assert_eq!(submit(&mut ring, &entry), -libc::EACCES, "{entry:?}");
        }
        let time = Timespec::new().nsec(1);
        let timeout = opcode::Timeout::new(&raw const time).build();
        assert_eq!(submit(&mut ring, &timeout), -libc::ETIME);
        let again = ring.submitter().register_files(&[0]).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EACCES));
    }
}
