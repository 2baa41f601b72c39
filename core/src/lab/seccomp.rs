//! A seccomp filter that refuses io_uring, as container runtimes' default profiles do.

use std::io;

const LD_W_ABS: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ_K: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RET_K: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Where `struct seccomp_data` has the system call's number.
const NUMBER: u32 = 0;

/// What happens to who tries io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// The call fails with this error: docker's profile answers EPERM, podman's ENOSYS.
    Errno(i32),
    /// The process is killed.
    Death,
}

/// Forbids all calls of io_uring to the calling thread and to every process that it starts from now
/// on.
///
/// # Errors
/// The kernel refuses the filter.
pub fn forbid_io_uring(forbidden: Forbidden) -> io::Result<()> {
    let verdict = match forbidden {
        Forbidden::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32 & 0xffff,
        Forbidden::Death => libc::SECCOMP_RET_KILL_PROCESS,
    };
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let program = [
        op(LD_W_ABS, 0, 0, NUMBER),
        op(JEQ_K, 2, 0, libc::SYS_io_uring_setup as u32),
        op(JEQ_K, 1, 0, libc::SYS_io_uring_enter as u32),
        op(JEQ_K, 0, 1, libc::SYS_io_uring_register as u32),
        op(RET_K, 0, 0, verdict),
        op(RET_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: no pointers. An unprivileged filter needs it, and it harms nobody here.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel
    // copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Cause, probe};

    #[test]
    fn the_thread_and_only_it_is_refused_and_knows_why() {
        let before = probe();
        for errno in [libc::EPERM, libc::ENOSYS] {
            let refused = std::thread::spawn(move || {
                forbid_io_uring(Forbidden::Errno(errno)).unwrap();
                probe().unwrap_err()
            });
            let refusal = refused.join().unwrap();
            assert!(matches!(refusal.cause(), Cause::Seccomp { .. }), "{refusal}");
        }
        assert_eq!(probe(), before);
    }
}
