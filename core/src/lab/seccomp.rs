//! A seccomp filter that refuses io_uring, as container runtimes' default profiles do.

use std::io;

const LD_W_ABS: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ_K: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RET_K: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Where `struct seccomp_data` has the system call's number.
const NUMBER: u32 = 0;

/// Makes `io_uring_setup` fail with `errno` for the calling thread and for every process that
/// it starts from now on: docker's profile answers EPERM, podman's ENOSYS.
///
/// # Errors
/// The kernel refuses the filter.
pub fn forbid_io_uring(errno: i32) -> io::Result<()> {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let program = [
        op(LD_W_ABS, 0, 0, NUMBER),
        op(JEQ_K, 0, 1, libc::SYS_io_uring_setup as u32),
        op(RET_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32 & 0xffff),
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

    #[test]
    fn the_thread_and_only_it_is_refused() {
        let attempt = || io_uring::IoUring::new(2).map(drop).map_err(|error| error.raw_os_error());
        let before = attempt();
        let refused = std::thread::spawn(move || {
            forbid_io_uring(libc::ENOSYS).unwrap();
            attempt()
        });
        assert_eq!(refused.join().unwrap(), Err(Some(libc::ENOSYS)));
        assert_eq!(attempt(), before);
    }
}
