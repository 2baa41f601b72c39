//! The system calls that are left, by seccomp(2): an allow-list for each kind of thread, made of
//! groups by what they are for. Anything else kills the process, since nothing but foreign code asks
//! for it; the kernel's log then names the call (`audit: type=1326`).
//!
//! The hot calls have no conditions on their arguments. For those the kernel keeps the filter's answer
//! in a bitmap and runs no program at all (Linux 5.11), however long that is and however many filters
//! there are on each other.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};
use tagwire_core::driver::DriverKind;

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Anything that one of the others is for, and to become it.
    Any,
    /// The packet loop.
    Worker,
    /// The cold side, and the threads that it starts.
    Cold,
    /// Signals, and a reload.
    Helper,
    /// The access log.
    Log,
}

/// Memory, time, waiting for each other, writing to the log, ending; what is open may be read,
/// written, asked about and closed.
const ALL_THREADS: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Operations of a ring that is there.
const RINGS: &[c_long] = &[libc::SYS_io_uring_enter];

/// Frames, where there is no ring.
const SENDS: &[c_long] = &[libc::SYS_sendmmsg, libc::SYS_sendmsg];

/// Files and directories, as far as Landlock leaves any.
const FILES: &[c_long] = &[
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Changes of files, and what else an event loop waits for.
const EVENTS: &[c_long] = &[
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// Clients of sockets that listen.
const CLIENTS: &[c_long] =
    &[libc::SYS_accept4, libc::SYS_getpeername, libc::SYS_getsockname, libc::SYS_shutdown];

/// Threads may be started; [`thread_calls`] says how.
const THREADS: &[c_long] = &[libc::SYS_setpriority, libc::SYS_set_tid_address];

/// What a thread needs until it is what it is for.
const STARTS: &[c_long] =
    &[libc::SYS_epoll_create1, libc::SYS_eventfd2, libc::SYS_inotify_init1, libc::SYS_seccomp];

/// The same for rings.
const RING_STARTS: &[c_long] = &[libc::SYS_io_uring_register, libc::SYS_io_uring_setup];

/// Rules by the number of their call. No rule: whatever the arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Role {
    fn rules(self, driver: DriverKind) -> Result<Rules, seccompiler::BackendError> {
        // Without a ring the cold side reads by calls that it has anyway.
        let (frames, reads, rings): (_, &[c_long], &[c_long]) = match driver {
            DriverKind::Uring => (RINGS, RINGS, RING_STARTS),
            DriverKind::Poll => (SENDS, &[], &[]),
        };
        let (groups, calls): (&[&[c_long]], _) = match self {
            Self::Any => (
                &[ALL_THREADS, frames, FILES, EVENTS, CLIENTS, THREADS, STARTS, rings],
                [worker_calls(), cold_calls(), thread_calls(), start_calls()].concat(),
            ),
            Self::Worker => (&[ALL_THREADS, frames], worker_calls()),
            Self::Cold => (
                &[ALL_THREADS, reads, FILES, EVENTS, CLIENTS, THREADS],
                [cold_calls(), thread_calls()].concat(),
            ),
            Self::Helper => (&[ALL_THREADS, FILES, THREADS], thread_calls()),
            Self::Log => (&[ALL_THREADS], log_calls()),
        };
        let mut rules = Rules::new();
        for Call(number, conditions) in [calls, calls_of_all()].concat() {
            let conditions = conditions.into_iter().map(Condition::compile);
            let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
            rules.entry(number).or_default().push(rule);
        }
        // What is allowed in any case needs no conditions.
        let anyway = groups.iter().copied().flatten();
        rules.extend(anyway.map(|number| (*number, Vec::new())));
        Ok(rules)
    }
}

/// A call that is allowed if all conditions are met.
#[derive(Debug, Clone)]
struct Call(c_long, Vec<Condition>);

/// A condition on the argument of this number.
#[derive(Debug, Clone)]
enum Condition {
    /// An int that has this value.
    Is(u8, u32),
    /// A pointer to nothing.
    Null(u8),
    /// Of these bits it has none.
    Without(u8, i32),
    /// It has all of these bits.
    With(u8, i32),
}

impl Condition {
    fn compile(self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let bits = |bits: i32| u64::from(bits.cast_unsigned());
        match self {
            Self::Is(at, value) => SeccompCondition::new(at, Len::Dword, Op::Eq, value.into()),
            Self::Null(at) => SeccompCondition::new(at, Len::Qword, Op::Eq, 0),
            Self::Without(at, mask) => {
                SeccompCondition::new(at, Len::Dword, Op::MaskedEq(bits(mask)), 0)
            }
            Self::With(at, mask) => {
                SeccompCondition::new(at, Len::Dword, Op::MaskedEq(bits(mask)), bits(mask))
            }
        }
    }
}

/// Two arguments that are ints with these values, behind a first one that may be anything.
fn options(number: c_long, pairs: &[(i32, i32)]) -> Vec<Call> {
    let exactly = |&(first, second): &(i32, i32)| {
        let is = |at, value: i32| Condition::Is(at, value.cast_unsigned());
        Call(number, vec![is(1, first), is(2, second)])
    };
    pairs.iter().map(exactly).collect()
}

/// Requests to what is open.
fn requests(requests: &[libc::Ioctl]) -> Vec<Call> {
    let one =
        |request: &libc::Ioctl| Call(libc::SYS_ioctl, vec![Condition::Is(1, *request as u32)]);
    requests.iter().map(one).collect()
}

/// `prctl` with these options.
fn prctl(options: &[i32]) -> Vec<Call> {
    let one = |option: &i32| Call(libc::SYS_prctl, vec![Condition::Is(0, option.cast_unsigned())]);
    options.iter().map(one).collect()
}

/// Memory is never executable; a signal is an abort of one's own, and what is sent goes to who is
/// connected already. A program's file, read only, is what a backtrace needs.
fn calls_of_all() -> Vec<Call> {
    use Condition::{Is, Null, Without};
    /// Anything but reading.
    const WRITING: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    let calls = vec![
        Call(libc::SYS_mmap, vec![Without(2, libc::PROT_EXEC)]),
        Call(libc::SYS_mprotect, vec![Without(2, libc::PROT_EXEC)]),
        Call(libc::SYS_tgkill, vec![Is(2, libc::SIGABRT.cast_unsigned())]),
        // The handler of a signal, which runs on any thread, tells of it by a pair of sockets.
        Call(libc::SYS_sendto, vec![Null(4)]),
        Call(libc::SYS_prlimit64, vec![Null(2)]),
        Call(libc::SYS_openat, vec![Without(2, WRITING)]),
        #[cfg(target_arch = "x86_64")]
        Call(libc::SYS_open, vec![Without(1, WRITING)]),
    ];
    // Whether the log is a terminal; names for glibc's memory.
    [calls, requests(&[libc::TCGETS, libc::TIOCGWINSZ]), prctl(&[PR_SET_VMA])].concat()
}

/// prctl(2); libc does not name it.
const PR_SET_VMA: i32 = 0x5356_4d41;

/// Groups and the filter of the receiving socket; room in the sending one; the state of the interface.
fn worker_calls() -> Vec<Call> {
    let options = options(
        libc::SYS_setsockopt,
        &[
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP),
            (libc::SOL_PACKET, libc::PACKET_DROP_MEMBERSHIP),
        ],
    );
    let requests = requests(&[
        libc::TIOCOUTQ,
        libc::SIOCGIFFLAGS,
        libc::SIOCGIFHWADDR,
        libc::SIOCGIFINDEX,
        libc::SIOCGIFMTU,
        libc::SIOCGIFNAME,
    ]);
    [options, requests].concat()
}

fn cold_calls() -> Vec<Call> {
    requests(&[libc::FIONBIO, libc::FIONREAD])
}

/// A file that is written behind its end, or made for that.
fn log_calls() -> Vec<Call> {
    const APPENDING: i32 = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
    let call = |number, at| {
        Call(number, vec![Condition::With(at, APPENDING), Condition::Without(at, libc::O_TRUNC)])
    };
    vec![
        call(libc::SYS_openat, 2),
        #[cfg(target_arch = "x86_64")]
        call(libc::SYS_open, 1),
    ]
}

/// Threads of this process, but no process; `clone3`, whose arguments no filter sees, is refused, and
/// the C library then does without.
fn thread_calls() -> Vec<Call> {
    let clone = Call(libc::SYS_clone, vec![Condition::With(0, libc::CLONE_THREAD)]);
    [vec![clone], prctl(&[libc::PR_SET_NAME])].concat()
}

/// For the next filter; for the poll driver's deadlines.
fn start_calls() -> Vec<Call> {
    prctl(&[libc::PR_SET_NO_NEW_PRIVS, libc::PR_SET_TIMERSLACK])
}

/// Leaves the calling thread what `role` needs with this driver.
///
/// # Errors
/// Why it cannot be.
pub(super) fn restrict(role: Role, driver: DriverKind) -> Result<(), String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|it| it.to_string())?;
    let compile = |rules, otherwise, then| -> Result<BpfProgram, _> {
        SeccompFilter::new(rules, otherwise, then, architecture)?.try_into()
    };
    let mut rules = role.rules(driver).map_err(|error| error.to_string())?;
    if role == Role::Any {
        let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
        let refusal = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let refused = compile(clone3, SeccompAction::Allow, refusal);
        let refused = refused.map_err(|error| error.to_string())?;
        apply_filter(&refused).map_err(|error| error.to_string())?;
    }
    // Refused is what the strictest of all filters says; to kill would be stricter.
    rules.insert(libc::SYS_clone3, Vec::new());
    let allowed = compile(rules, SeccompAction::KillProcess, SeccompAction::Allow);
    let allowed = allowed.map_err(|error| error.to_string())?;
    apply_filter(&allowed).map_err(|error| error.to_string())
}
