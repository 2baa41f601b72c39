//! What is left of an io_uring: of a worker's the operations of its loop, with their flags; of the one that
//! files are read by, reads. Files cannot be opened by them, nor sockets made or connected, which no
//! seccomp filter would see; and nothing can be registered any more.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Held as long as a ring is disabled: one at a time is.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restricts a ring that was made disabled in its [`turn`], and enables it. From then on it takes submissions from
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

/// `io_uring_register(2)` on a descriptor of which only the number is known.
const IORING_REGISTER_RESTRICTIONS: libc::c_long = 11;
const IORING_REGISTER_ENABLE_RINGS: libc::c_long = 12;

/// Has a library make a ring, whose descriptor it keeps to itself, and leaves reads of it, without any flags.
/// The ring must be made disabled (`IORING_SETUP_R_DISABLED`), and is enabled then.
///
/// It is found as the only one that can be restricted: rings which are enabled refuse that, and so does what is no
/// ring. Disabled ones that this crate makes are not there meanwhile; others must not be.
///
/// # Errors
/// It was not made, or there is no disabled one among the descriptors.
pub fn make_for_reads<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _turn = turn();
    let made = make()?;
    let allowed = [Restriction::sqe_op(opcode::Read::CODE)];
    let mut all = 0..descriptors();
    let found = all.find(|fd| register(*fd, IORING_REGISTER_RESTRICTIONS, &allowed).is_ok());
    let found = found.ok_or_else(|| io::Error::other("its io_uring cannot be restricted"))?;
    register(found, IORING_REGISTER_ENABLE_RINGS, &[])?;
    Ok(made)
}

/// The number that no descriptor reaches.
fn descriptors() -> RawFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it is written to what it is given, which is there.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX)
}

fn register(fd: RawFd, operation: libc::c_long, restrictions: &[Restriction]) -> io::Result<()> {
    let array = if restrictions.is_empty() { std::ptr::null() } else { restrictions.as_ptr() };
    let (fd, len) = (libc::c_long::from(fd), restrictions.len());
    // SAFETY: the kernel reads `len` of them, which are laid out as it knows them, and keeps no pointer. What is
    // done to a descriptor that is no ring, or an enabled one, is nothing.
    let done = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, operation, array, len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

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

    /// A ring, or nothing where there is no io_uring, which is said.
    fn made<T>(built: io::Result<T>) -> Option<T> {
        built.inspect_err(|error| eprintln!("SKIPPED (no io_uring here): {error}")).ok()
    }

    #[test]
    fn all_but_reads_is_refused_by_a_ring_whose_descriptor_nobody_tells() {
        // An enabled one before it is left alone.
        let Some(mut other) = made(IoUring::new(2)) else { return };
        let mut ring = make_for_reads(|| IoUring::builder().setup_r_disabled().build(8)).unwrap();
        let mut octet = [0];
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let read = opcode::Read::new(Fd(file.as_raw_fd()), octet.as_mut_ptr(), 1).build();
        assert_eq!(submit(&mut ring, &read), 1);
        assert_eq!(octet, [0x7f], "of an ELF file");
        let nop = opcode::Nop::new().build();
        for entry in [
            nop.clone(),
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr()).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build(),
            read.flags(Flags::ASYNC),
        ] {
            assert_eq!(submit(&mut ring, &entry), -libc::EACCES, "{entry:?}");
        }
        assert_eq!(submit(&mut other, &nop), 0);
        // There is no other that could be restricted.
        let none = make_for_reads(|| IoUring::new(2)).err();
        assert!(none.is_some_and(|error| error.to_string().contains("cannot be restricted")));
    }

    #[test]
    fn all_but_the_loop_is_refused() {
        let turn = turn();
        let built = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_r_disabled()
            .build(8);
        let Some(mut ring) = made(built) else { return };
        enable(&ring).unwrap();
        drop(turn);
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
